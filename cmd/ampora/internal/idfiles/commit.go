package idfiles

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Commit puts a verified answer into place. After an error it is either undecided (the stage is still there) or decided, and
// then the next Settle finishes it.
func (d *Dir) Commit() error {
	var list []string
	for _, name := range names() {
		if _, err := os.Stat(filepath.Join(d.path, stageDir, name)); err == nil {
			list = append(list, name)
		}
	}
	if err := d.write(manifest, []byte(strings.Join(list, "\n")+"\n")); err != nil {
		return err
	}
	if err := d.syncStage(); err != nil {
		return err
	}
	if err := d.at("commit"); err != nil {
		return err
	}
	if err := os.Rename(d.File(stageDir), d.File(commitDir)); err != nil {
		return err
	}
	if err := syncDir(d.path); err != nil {
		return err
	}
	_, err := d.Settle()
	return err
}

// Settle finishes a commit that was cut off, and reports whether there was one.
func (d *Dir) Settle() (bool, error) {
	from := d.File(commitDir)
	data, err := os.ReadFile(filepath.Join(from, manifest))
	if errors.Is(err, fs.ErrNotExist) {
		// Either no commit, or one whose last step was cut off.
		if err := os.RemoveAll(from); err != nil {
			return false, err
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	list := strings.Fields(string(data))
	if _, err := os.Stat(filepath.Join(from, Cert)); err == nil && !d.fits(from, list) {
		// Break the seal: from here to the last move there is no identity to be read half-way.
		if err := d.remove(Cert); err != nil {
			return false, err
		}
	}
	for _, name := range names() {
		if name == Cert {
			if err := syncDir(d.path); err != nil {
				return false, err
			}
		}
		if err := d.place(from, name, slices.Contains(list, name)); err != nil {
			return false, err
		}
	}
	if err := syncDir(d.path); err != nil {
		return false, err
	}
	if err := d.at("forget commit"); err != nil {
		return false, err
	}
	if err := os.RemoveAll(from); err != nil {
		return false, err
	}
	return true, syncDir(d.path)
}

// fits reports whether all that stands in place is what the commit would put there, but for the certificate. Whoever reads
// the files meanwhile reads the old identity or the new one then.
func (d *Dir) fits(from string, list []string) bool {
	for _, name := range names() {
		if name == Cert {
			continue
		}
		here, err := os.ReadFile(d.File(name))
		if !slices.Contains(list, name) {
			if !errors.Is(err, fs.ErrNotExist) {
				return false
			}
			continue
		}
		there, gone := os.ReadFile(filepath.Join(from, name))
		if errors.Is(gone, fs.ErrNotExist) && err == nil {
			continue // moved already
		}
		if err != nil || gone != nil || !bytes.Equal(here, there) {
			return false
		}
	}
	return true
}

// place moves one file, or removes the old identity's when the new one has none. A file that is gone from the commit has been
// moved already.
func (d *Dir) place(from, name string, listed bool) error {
	if !listed {
		return d.remove(name)
	}
	if err := d.at("place " + name); err != nil {
		return err
	}
	err := os.Rename(filepath.Join(from, name), d.File(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d *Dir) remove(name string) error {
	if err := d.at("remove " + name); err != nil {
		return err
	}
	if err := os.Remove(d.File(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(d.path)
}
