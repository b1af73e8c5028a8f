package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// scripts are the completion scripts by shell. They ask the binary, so they don't change with its commands.
var scripts = map[string]string{
	"bash": `# Put this into ~/.bashrc: source <(millrace completion bash)
_millrace() {
    local IFS=$'\n'
    COMPREPLY=($(millrace complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _millrace millrace
`,
	"zsh": `#compdef millrace
# Put this into a file _millrace of $fpath, or into ~/.zshrc: source <(millrace completion zsh)
_millrace() {
    local -a found
    found=("${(@f)$(millrace complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[*]}" ]]; then
        _describe millrace found
    else
        _files
    fi
}
if [[ $funcstack[1] = _millrace ]]; then
    _millrace "$@"
else
    compdef _millrace millrace
fi
`,
	"fish": `# Put this into ~/.config/fish/completions/millrace.fish
function __millrace_complete
    set -l words (commandline -opc) (commandline -ct)
    millrace complete fish $words[2..-1] 2>/dev/null
end
complete -c millrace -f -n 'count (__millrace_complete) >/dev/null' -a '(__millrace_complete)'
`,
}

// Run prints the script for the shell.
func (c *completionCmd) Run(out console) error {
	_, err := io.WriteString(out.stdout, scripts[c.Shell])
	return err
}

// completeCmd is called by the scripts, with the shell's name and the words so far. The last word may be incomplete.
type completeCmd struct {
	Words []string `arg:"" optional:""`
}

// Run prints what can replace the last word.
func (c *completeCmd) Run(app *kong.Kong, out console) error {
	if len(c.Words) == 0 {
		return usageError("name the shell")
	}
	words := append([]string{""}, c.Words[1:]...)
	for _, found := range complete(app.Model.Node, words[1:max(len(words)-1, 1)], words[len(words)-1]) {
		if _, err := fmt.Fprintln(out.stdout, found.line(c.Words[0])); err != nil {
			return err
		}
	}
	return nil
}

// candidate is a possible word, with its help text.
type candidate struct{ word, help string }

// line formats a candidate for the shell's script.
func (c candidate) line(shell string) string {
	switch shell {
	case "zsh":
		return strings.ReplaceAll(c.word, ":", `\:`) + ":" + c.help
	case "fish":
		return c.word + "\t" + c.help
	}
	return c.word
}

// complete returns the commands and flags that may follow the words and begin with begun. An empty result means that a
// file name or another free text is expected.
func complete(at *kong.Node, words []string, begun string) (out []candidate) {
	value := false // the next word is the value of a flag
	for _, word := range words {
		flag := flagOf(at, word)
		switch {
		case value:
			value = false
		case flag != nil:
			value = !flag.IsBool() && !strings.Contains(word, "=")
		default:
			if i := slices.IndexFunc(at.Children, func(n *kong.Node) bool { return n.Name == word }); i >= 0 {
				at = at.Children[i]
			}
		}
	}
	if value {
		return nil
	}
	for _, c := range append(commands(at), flags(at, begun)...) {
		if strings.HasPrefix(c.word, begun) {
			out = append(out, c)
		}
	}
	return out
}

// flagOf returns the flag that a word is; nil if it is none.
func flagOf(at *kong.Node, word string) *kong.Flag {
	name, _, _ := strings.Cut(word, "=")
	for _, group := range at.AllFlags(false) {
		for _, f := range group {
			if name == "--"+f.Name || (f.Short != 0 && name == "-"+string(f.Short)) {
				return f
			}
		}
	}
	return nil
}

func commands(at *kong.Node) (out []candidate) {
	for _, n := range at.Children {
		if !n.Hidden {
			out = append(out, candidate{n.Name, n.Help})
		}
	}
	for _, p := range at.Positional {
		for _, word := range p.EnumSlice() {
			if word != "" {
				out = append(out, candidate{word, ""})
			}
		}
	}
	return out
}

// flags returns the flags of a command and its parents, if begun begins with a dash.
func flags(at *kong.Node, begun string) (out []candidate) {
	if !strings.HasPrefix(begun, "-") {
		return nil
	}
	for _, group := range at.AllFlags(true) {
		for _, f := range group {
			out = append(out, candidate{"--" + f.Name, f.Help})
			if f.Negated {
				out = append(out, candidate{"--no-" + f.Name, f.Help})
			}
		}
	}
	return out
}
