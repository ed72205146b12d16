package vaulttest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// dirPrefix begins the name of every directory that a Vault keeps its files in.
const dirPrefix = "ampora-vault-"

// makeDir makes a directory and marks it as ours for as long as the returned file is
// open, which is at most as long as this process lives.
func makeDir(tmp string) (dir string, mark *os.File, err error) {
	if dir, err = os.MkdirTemp(tmp, dirPrefix); err != nil {
		return "", nil, err
	}
	// Vault wants its plugin directory without symbolic links.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", nil, err
	}
	// Locked before it has the name that sweep looks for.
	name := filepath.Join(dir, "owner")
	if mark, err = os.Create(name + ".new"); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err = errors.Join(syscall.Flock(int(mark.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), os.Rename(mark.Name(), name)); err != nil {
		return "", nil, errors.Join(err, mark.Close(), os.RemoveAll(dir))
	}
	return dir, mark, nil
}

// sweep removes what owners left behind who were killed before they could do so
// themselves. A directory without a mark is left alone.
func sweep(tmp string) {
	marks, _ := filepath.Glob(filepath.Join(tmp, dirPrefix+"*", "owner"))
	for _, name := range marks {
		mark, err := os.Open(name)
		if err != nil {
			continue // gone, or another user's
		}
		if syscall.Flock(int(mark.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(name)) // the next sweep tries again
		}
		mark.Close()
	}
}
