package handover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
)

// output is a file that is there whole, or not at all. It never takes the place of another.
type output struct {
	path string
	temp *os.File
}

// newOutput begins a file, before anything is made that belongs in it.
func newOutput(path string) (*output, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, taken(path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // for its owner alone
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.New(fmt.Sprintf("there is no folder %s", filepath.Dir(path)), "make it first")
	}
	if err != nil {
		return nil, err
	}
	return &output{path, temp}, nil
}

func taken(path string) error {
	return hint.New(fmt.Sprintf("%s is there already", path), "give another name to --out: a file of tokens is never written over")
}

// commit puts the file into place.
func (o *output) commit(data []byte) error {
	_, err := o.temp.Write(data)
	if err = errors.Join(err, o.temp.Sync(), o.temp.Close()); err != nil {
		return err
	}
	err = os.Link(o.temp.Name(), o.path) // unlike a rename it fails when somebody else was faster
	if errors.Is(err, fs.ErrExist) {
		return taken(o.path)
	}
	if err != nil { // not every file system knows links
		return o.copy(data)
	}
	return syncFolder(filepath.Dir(o.path))
}

func (o *output) copy(data []byte) error {
	f, err := os.OpenFile(o.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return taken(o.path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(o.path))
	}
	return syncFolder(filepath.Dir(o.path))
}

// drop removes what was begun.
func (o *output) drop() {
	o.temp.Close()
	os.Remove(o.temp.Name())
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
