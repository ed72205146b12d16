//go:build unix

package idfiles

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWhatRootMakesBelongsToTheDirectorysOwner(t *testing.T) {
	dir, uid, gid := t.TempDir(), os.Geteuid(), os.Getegid()
	if uid == 0 { // nobody else can give files away: theirs are their own
		uid, gid = 12345, 12345
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	enrol(t, open(t, dir, nil), identityFor(t, "x"))
	for _, name := range []string{Key, Cert, CA, Supervisor} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := info.Sys().(*syscall.Stat_t); !ok || int(at.Uid) != uid || int(at.Gid) != gid {
			t.Errorf("%s belongs to another: %+v", name, info.Sys())
		}
	}
}
