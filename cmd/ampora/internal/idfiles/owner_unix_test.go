//go:build unix

package idfiles

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWhatRootMakesBelongsToTheDirectorysOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	const owner = 12345
	if err := os.Chown(dir, owner, owner); err != nil {
		t.Fatal(err)
	}
	enrol(t, open(t, dir, nil), identityFor(t, "x"))
	for _, name := range []string{Key, Cert, CA, Supervisor} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := info.Sys().(*syscall.Stat_t); !ok || at.Uid != owner || at.Gid != owner {
			t.Errorf("%s belongs to another: %+v", name, info.Sys())
		}
	}
}
