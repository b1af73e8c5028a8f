package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// The reasons why a link isn't followed.
var (
	errOutside = errors.New("is a link that leads out of the folder: copy what it names into the folder")
	errLoop    = errors.New("is a link that leads back to itself")
	errGone    = errors.New("is a link to a file that doesn't exist")
)

// maxLinks bounds the links on the way to one file, as Linux does.
const maxLinks = 40

// resolve follows the links of a name in the folder. resolved is the name without links, so that what is published can
// be judged by that name too; the root guards against a change between this and opening it.
func resolve(root *os.Root, name string) (resolved string, info fs.FileInfo, err error) {
	done, rest := "", name
	for links := 0; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			if done == "" {
				return "", nil, errOutside
			}
			done = parent(done)
			continue
		}
		at := path.Join(done, part)
		if info, err = root.Lstat(filepath.FromSlash(at)); err != nil {
			return "", nil, linkError(err, links)
		}
		if info.Mode().Type() != fs.ModeSymlink {
			done = at
			continue
		}
		if links++; links > maxLinks {
			return "", nil, errLoop
		}
		target, err := root.Readlink(filepath.FromSlash(at))
		if err != nil {
			return "", nil, fmt.Errorf("can't be read: %w", plain(err))
		}
		if filepath.IsAbs(target) || filepath.VolumeName(target) != "" {
			return "", nil, errOutside
		}
		rest = filepath.ToSlash(target) + "/" + rest
	}
	if done == "" {
		done = "."
	}
	if info, err = root.Lstat(filepath.FromSlash(done)); err != nil {
		return "", nil, fmt.Errorf("can't be read: %w", plain(err))
	}
	return done, info, nil
}

func parent(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}

func linkError(err error, links int) error {
	if links > 0 && errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	return fmt.Errorf("can't be read: %w", plain(err))
}

// plain returns the cause of an error of the file system without operation and path: messages name the path already.
func plain(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}
