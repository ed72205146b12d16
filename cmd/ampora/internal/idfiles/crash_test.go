package idfiles

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var errCrash = errors.New("crash")

// TestACrashAtAnyStepLeavesTheOldIdentityOrTheNew runs an enrolment that ends at its n-th change of a file, for every n, once
// into an empty directory and once over an old identity.
func TestACrashAtAnyStepLeavesTheOldIdentityOrTheNew(t *testing.T) {
	old, fresh := identityFor(t, "old"), identityFor(t, "new")
	fresh.CA = nil // so that the old one's ca.pem must go
	for _, before := range []*Identity{nil, old} {
		for n := 1; ; n++ {
			dir := filepath.Join(t.TempDir(), "id")
			if before != nil {
				enrol(t, open(t, dir, nil), before)
			}
			steps := 0
			d := open(t, dir, func(string) error {
				if steps++; steps == n {
					return errCrash
				}
				return nil
			})
			err := enrolErr(d, fresh)
			d.lock.Close() // as the end of the process does
			d.lock = nil
			if err == nil {
				if n < 12 {
					t.Fatalf("only %d steps were counted", n)
				}
				break
			}
			if !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			checkSeal(t, n, dir, before, fresh)

			d = open(t, dir, nil)
			if _, err := d.Settle(); err != nil {
				t.Fatalf("step %d: settling: %v", n, err)
			}
			got, err := d.Current()
			switch {
			case errors.Is(err, ErrNone) && before == nil:
			case err != nil:
				t.Fatalf("step %d: %v", n, err)
			case same(got, fresh):
				checkModes(t, dir)
			case before != nil && same(got, before):
			default:
				t.Fatalf("step %d: neither the old nor the new identity", n)
			}
			// And whatever state it is in, a new enrolment ends well.
			enrol(t, d, fresh)
		}
	}
}

// TestARenewalOfTheSameKeyNeverLeavesADirectoryWithoutAnIdentity runs one that ends at its n-th change of a file, for every n:
// whoever reads the files, before anybody settles anything, reads the old identity or the new one.
func TestARenewalOfTheSameKeyNeverLeavesADirectoryWithoutAnIdentity(t *testing.T) {
	old := identityFor(t, "agent")
	fresh := *old
	fresh.Cert = certificateFor(t, old, "renewed")
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "id")
		enrol(t, open(t, dir, nil), old)
		steps := 0
		d := open(t, dir, func(string) error {
			if steps++; steps == n {
				return errCrash
			}
			return nil
		})
		err := enrolErr(d, &fresh)
		d.lock.Close()
		d.lock = nil
		if err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		got, readErr := (&Dir{path: dir}).Current()
		if readErr != nil || !same(got, old) && !same(got, &fresh) {
			t.Fatalf("step %d: %v", n, readErr)
		}
		if err == nil {
			if n < 12 || !same(got, &fresh) {
				t.Fatalf("after %d steps it is not the new one", n)
			}
			return
		}
		d = open(t, dir, nil)
		if _, err := d.Settle(); err != nil {
			t.Fatalf("step %d: settling: %v", n, err)
		}
		enrol(t, d, &fresh)
	}
}

// checkSeal holds that wherever the certificate stands, before anybody settles anything, all other files fit it.
func checkSeal(t *testing.T, n int, dir string, before, fresh *Identity) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, Cert)); errors.Is(err, fs.ErrNotExist) {
		return
	}
	got, err := (&Dir{path: dir}).Current()
	if err != nil {
		t.Fatalf("step %d: under the seal: %v", n, err)
	}
	if !same(got, fresh) && (before == nil || !same(got, before)) {
		t.Fatalf("step %d: a mixture under the seal", n)
	}
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestARunThatComesToNothingLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := open(t, dir, nil)
	if err := d.Begin(pending(identityFor(t, "x"))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Drop(), d.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("something stayed: %v", err)
	}
}

func TestTwoRunsIntoOneDirectoryDoNotMix(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, nil)
	if _, err := Open(dir); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, nil).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAStrangersFilesAreNoIdentity(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Key), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, nil).Current(); err == nil || errors.Is(err, ErrNone) {
		t.Fatalf("got %v", err)
	}
}

func open(t *testing.T, path string, step func(string) error) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	d.step = step
	t.Cleanup(func() { d.Close() })
	return d
}

func pending(id *Identity) Pending {
	return Pending{Key: id.Key, TokenID: "t", Endpoint: id.Endpoint, InstanceUID: id.InstanceUID}
}

func enrolErr(d *Dir, id *Identity) error {
	if err := d.Begin(pending(id)); err != nil {
		return err
	}
	if err := d.Answer(*id, map[string][]byte{Supervisor: []byte("# s\n")}); err != nil {
		return err
	}
	return d.Commit()
}

func enrol(t *testing.T, d *Dir, id *Identity) {
	t.Helper()
	if err := enrolErr(d, id); err != nil {
		t.Fatal(err)
	}
	got, err := d.Current()
	if err != nil || !same(got, id) {
		t.Fatalf("after an enrolment: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func same(a, b *Identity) bool {
	return bytes.Equal(a.Cert, b.Cert) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.CA, b.CA) && a.Endpoint == b.Endpoint && a.InstanceUID == b.InstanceUID
}

func identityFor(t *testing.T, name string) *Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := &Identity{
		Key:      pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		Endpoint: "wss://" + name + ":4320/v1/opamp", InstanceUID: name,
	}
	id.Cert = certificateFor(t, id, name)
	id.CA = id.Cert
	return id
}

// certificateFor is one more for the key of id.
func certificateFor(t *testing.T, id *Identity, name string) []byte {
	t.Helper()
	block, _ := pem.Decode(id.Key)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*ecdsa.PrivateKey) // identityFor has made it
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
