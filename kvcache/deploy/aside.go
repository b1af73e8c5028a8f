package deploy

import (
	"encoding/json"
	"sync"
)

// maxEvents bounds the events that nobody was told yet. Further ones are only logged.
const maxEvents = 256

// aside saves notes and tells of events in a goroutine of its own: the follower must not wait for a
// disk. Its methods are called by one goroutine.
type aside struct {
	cfg    *Config
	notes  chan *note // holds the last one that isn't saved yet
	events chan Event
	ended  sync.WaitGroup
}

func newAside(cfg *Config) *aside {
	return &aside{cfg: cfg, notes: make(chan *note, 1), events: make(chan Event, maxEvents)}
}

func (a *aside) open() { a.ended.Go(a.run) }

// close returns when the last note is saved and all events are told.
func (a *aside) close() {
	close(a.notes)
	close(a.events)
	a.ended.Wait()
}

// save saves a note, unless a later one comes first.
func (a *aside) save(n *note) {
	select {
	case <-a.notes:
	default:
	}
	a.notes <- n // there is room: nobody else sends
}

func (a *aside) tell(e Event) {
	a.cfg.Log.Info("a site has changed", "site", e.Site, "what", e.What, "id", e.ID.Short())
	select {
	case a.events <- e:
	default:
		a.cfg.Log.Warn("nobody is told of a change of a site: too many wait", "site", e.Site)
	}
}

func (a *aside) run() {
	notes, events := a.notes, a.events
	for notes != nil || events != nil {
		select {
		case n, ok := <-notes:
			if !ok {
				notes = nil
				continue
			}
			a.write(n)
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			a.cfg.Event(e)
		}
	}
}

func (a *aside) write(n *note) {
	data, err := json.Marshal(n)
	if err == nil {
		err = a.cfg.Notes.Save(data)
	}
	if err != nil {
		a.cfg.Log.Error("what the sites serve can't be noted for the next start", "cause", err)
	}
}
