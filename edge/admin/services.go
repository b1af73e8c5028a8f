package admin

import "millrace/mesh"

// Service is a service of the mesh: one to which routes send requests, or that members serve.
type Service struct {
	Name    string            `json:"name"`
	Members []mesh.Subscriber `json:"members"` // in the whole mesh
	Routes  []string          `json:"routes"`  // names of this node's routes to it, and of gathers that call it
}

// Services lists the services that a node knows of.
type Services struct {
	List    []Service `json:"list"`
	Unknown string    `json:"unknown,omitempty"` // why the members aren't known; then none are listed
}
