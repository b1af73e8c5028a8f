package main

import (
	"errors"
	"os"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/embedded/natsserver"
	"millrace/embedded/publish"
	"millrace/node/state"
)

// hint returns the text of an error and, if it is a known one, what to do about it.
func hint(err error) string {
	for _, h := range []struct {
		is   error
		text string
	}{
		{edge.ErrPortInUse, "another program has this port: stop it, or choose another with edge.listen or --listen"},
		{admin.ErrPortInUse, "another program has this port: stop it, or choose another with admin.listen"},
		{natsserver.ErrPortInUse, "another program has this port: stop it, or choose another with mesh.listen"},
		{
			natsserver.ErrClusterPortInUse,
			"another program has this port: stop it, or choose another with mesh.cluster.listen",
		},
		{natsserver.ErrMode, "set node.name and mesh.cluster back, give the node another node.data, or move that " +
			"directory away: the streams in it (caches, counters) are made anew"},
		{publish.ErrDenied, "name the site's token, or admin.token, with --token or MILLRACE_TOKEN"},
		{publish.ErrFolder, ""},
		{os.ErrNotExist, "name a file with -c; to begin one: millrace proxy URL --print > millrace.yaml"},
		{state.ErrInUse, "stop the other node, or choose another directory with node.data"},
	} {
		if errors.Is(err, h.is) && h.text == "" {
			break
		}
		if errors.Is(err, h.is) {
			return err.Error() + "\n  " + h.text
		}
	}
	return err.Error()
}
