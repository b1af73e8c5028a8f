package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"millrace/embedded/publish"
	"millrace/node/config"
)

// Exit codes. Scripts rely on them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitConfig      = 3
	exitUnreachable = 4
	exitLostRace    = 5
)

// errUnreachable means that no node answers at the admin address.
var errUnreachable = errors.New("node is not reachable")

// cli is the command line: one field per subcommand, each in a file of its own.
type cli struct {
	Demo     demoCmd     `cmd:"" help:"Start a node with sample upstreams and take a guided tour."`
	Proxy    proxyCmd    `cmd:"" help:"Put your API behind Millrace: millrace proxy http://localhost:3000"`
	Serve    serveCmd    `cmd:"" help:"Serve a folder: millrace serve dist"`
	Preview  previewCmd  `cmd:"" help:"Serve a folder on this machine, and show each change of it at once."`
	Run      runCmd      `cmd:"" help:"Run a node from a configuration file."`
	Check    checkCmd    `cmd:"" help:"Find every mistake in a configuration file."`
	Schema   schemaCmd   `cmd:"" help:"Print the configuration's JSON Schema, for editors."`
	Explain  explainCmd  `cmd:"" help:"Tell which route a request takes, on a running node."`
	Status   statusCmd   `cmd:"" help:"Tell how a running node is."`
	Tail     tailCmd     `cmd:"" help:"Watch the requests of a running mesh."`
	Publish  publishCmd  `cmd:"" help:"Make a folder a site's live content, on every node at once."`
	Sites    sitesCmd    `cmd:"" help:"List, show and delete sites."`
	Rollback rollbackCmd `cmd:"" help:"Make an earlier deploy of a site live again."`
	Promote  promoteCmd  `cmd:"" help:"Make the deploy of a preview live."`
	Diff     diffCmd     `cmd:"" help:"Tell what publishing a folder would change, or in what two deploys differ."`
	Purge    purgeCmd    `cmd:"" help:"Make cached responses invalid on every node."`
	Limits   limitsCmd   `cmd:"" help:"Show or reset what a client has left of its limits."`
	Reload   reloadCmd   `cmd:"" help:"Let a running node read its configuration file again."`
	Version  versionCmd  `cmd:"" help:"Print version, commit and date."`
	Help     helpCmd     `cmd:"" help:"Tell of a command: millrace help run"`

	Completion completionCmd `cmd:"" help:"Print a script that lets a shell complete commands and flags."`
	Complete   completeCmd   `cmd:"" hidden:"" passthrough:""`

	VersionFlag versionFlag `name:"version" help:"Print version, commit and date."`
}

// exit is the exit code if the parser printed help or the version; else it is negative.
type exit int

func main() {
	os.Exit(run(os.Args[1:], console{os.Stdout, os.Stderr}))
}

// run executes one command line and returns its exit code.
func run(args []string, out console) int {
	out = console{newScreen(out.stdout), newScreen(out.stderr)}
	ctx, signals := watchSignals(context.Background())
	defer signals.stop()
	exited := exit(-1)
	parser, err := newParser(out, &exited, kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(out, signals, &exited))
	if err != nil {
		fmt.Fprintln(out.stderr, "millrace:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	switch {
	case exited >= 0: // help or version was printed
		return int(exited)
	case err != nil:
		fmt.Fprintf(out.stderr, "millrace: %s\nTry: %s\n", err, helpOf(err))
		return exitUsage
	}
	return exitCode(parsed.Run(parser), out)
}

// helpOf returns the command line that helps with a mistake: that of the command that was named, if one was.
func helpOf(err error) string {
	words := []string{"millrace"}
	if at, ok := errors.AsType[*kong.ParseError](err); ok {
		for _, p := range at.Context.Path {
			if p.Command != nil {
				words = append(words, p.Command.Name)
			}
		}
	}
	return strings.Join(append(words, "--help"), " ")
}

// newParser returns the parser of command lines.
func newParser(out console, exited *exit, more ...kong.Option) (*kong.Kong, error) {
	return kong.New(&cli{}, append([]kong.Option{
		kong.Name("millrace"), kong.Writers(out.stdout, out.stderr),
		kong.Description("An API gateway and mesh in one binary: start it in front of your app, cluster it when you " +
			"grow, extend it by subscribing to a subject."),
		kong.Exit(func(code int) { *exited = exit(code) }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	}, more...)...)
}

// exitCode prints an error and returns its exit code.
func exitCode(err error, out console) int {
	if err == nil {
		return exitOK
	}
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		fmt.Fprintln(out.stderr, mistakes)
		return exitConfig
	}
	fmt.Fprintln(out.stderr, "millrace:", hint(err))
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	switch {
	case errors.Is(err, errUnreachable), errors.Is(err, publish.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, errInvalidConfig), errors.Is(err, publish.ErrFolder):
		return exitConfig
	case errors.Is(err, publish.ErrLostRace):
		return exitLostRace
	}
	return exitFailed
}

// usageError is a mistake in the command line.
type usageError string

func (e usageError) Error() string { return string(e) }
