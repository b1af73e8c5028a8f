package admin

import "millrace/mesh"

// Service is a service of the mesh: one that routes ask, or that members serve.
type Service struct {
	Name    string            `json:"name"`
	Members []mesh.Subscriber `json:"members"` // everywhere in the mesh
	Routes  []string          `json:"routes"`  // of this node that ask it, by name; gathers too
}

// Services are those that a node knows of.
type Services struct {
	List    []Service `json:"list"`
	Unknown string    `json:"unknown,omitempty"` // why it isn't known who their members are; then none are listed
}
