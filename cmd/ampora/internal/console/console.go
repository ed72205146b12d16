// Package console is what a subcommand has of the outside world: its streams, its environment, its input files.
package console

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
)

// Console holds the streams of one run. Results go to Out; progress and advice go to Err, so that Out can be piped.
type Console struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	Getenv func(string) string
}

// Sayf writes one line of progress.
func (c *Console) Sayf(format string, args ...any) { fmt.Fprintf(c.Err, format+"\n", args...) }

// Printf writes to the result.
func (c *Console) Printf(format string, args ...any) { fmt.Fprintf(c.Out, format, args...) }

// Interactive reports whether a person sits at the input, so that reading it would wait for typing.
func (c *Console) Interactive() bool {
	f, ok := c.In.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Colour reports whether the result goes to a terminal that shows colours, and whether its user has not said otherwise
// (no-color.org).
func (c *Console) Colour() bool {
	f, ok := c.Out.(*os.File)
	if !ok || c.Getenv("NO_COLOR") != "" || c.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Plain keeps what others have written from moving the cursor, or worse, of whoever reads it.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// ReadInput reads a file, or the standard input when name is "-". It refuses more than limit bytes.
func (c *Console) ReadInput(name string, limit int64) ([]byte, error) {
	var r io.Reader = c.In
	if name == "-" {
		name = "the standard input"
	} else {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, hint.New(fmt.Sprintf("there is no file %s", name), "give a file name, or '-' for the standard input")
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, hint.New(fmt.Sprintf("%s is larger than %d bytes", name, limit), "this is not the file you meant, is it?")
	}
	return data, nil
}
