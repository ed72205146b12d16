// Package idfiles keeps an agent's identity as files, so that a crash at any moment leaves the old identity whole, or the new
// one, or something that the next run finishes; never a key without its certificate.
//
// # Files
//
//	DIR/cert.pem       the certificate. It is the seal: taken away first, put back last. Where it stands, all others fit it.
//	DIR/key.pem        its private key, PKCS #8
//	DIR/ca.pem         what verifies the edge; absent when the system's roots do
//	DIR/endpoint       where to connect, one line
//	DIR/instance_uid   the OpAMP instance uid, one line
//	DIR/*.yaml         the same as settings for a collector
//
//	DIR/.enroll/       an enrolment under way: the key is stored before the token is spent, the rest when the answer is there
//	DIR/.commit/       an enrolment that was verified; renaming .enroll to .commit is the commit. What is in it is moved into
//	                   place by whoever finds it.
//
// A renewal goes the same way. When nothing but the certificate changes, it takes the old one's place in one step, without the
// seal being broken.
//
// Files have mode 0600, directories 0700; what root makes belongs to whom DIR belongs. Everything is synced before the step
// that builds on it.
package idfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of an identity's files.
const (
	Cert          = "cert.pem"
	Key           = "key.pem"
	CA            = "ca.pem"
	Endpoint      = "endpoint"
	InstanceUID   = "instance_uid"
	Supervisor    = "supervisor.yaml"
	Extension     = "extension.yaml"
	stageDir      = ".enroll"
	commitDir     = ".commit"
	manifest      = "manifest"
	tokenID       = "token_id"
	offerHash     = "offer_hash"
	destination   = "asked_endpoint"
	fileMode      = 0o600
	directoryMode = 0o700
)

// names lists what an identity may have; Cert comes last, see the package comment.
func names() []string {
	return []string{Key, CA, Endpoint, InstanceUID, Supervisor, Extension, Cert}
}

// Dir is an identity's directory, held by one process at a time.
type Dir struct {
	path    string
	lock    *os.File
	created []string // by Open, outermost first
	step    func(what string) error
}

// ErrBusy means that another process is at work in the directory.
var ErrBusy = errors.New("another run is at work in this directory")

// Open makes the directory if need be, and takes hold of it. Close lets go.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path}
	if err := d.mkdir(path); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if d.lock, err = lockDir(path); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Path is the directory's absolute name.
func (d *Dir) Path() string { return d.path }

// File is the absolute name of one of its files.
func (d *Dir) File(name string) string { return filepath.Join(d.path, name) }

// Close lets go of the directory, and removes what Open made when nothing came to lie in it.
func (d *Dir) Close() error {
	for i := len(d.created) - 1; i >= 0; i-- {
		if err := os.Remove(d.created[i]); err != nil {
			break // not empty: that is the good case
		}
	}
	d.created = nil
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close()
	d.lock = nil
	return err
}

// mkdir makes path and what is missing above it, and remembers what it made.
func (d *Dir) mkdir(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", path)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent := filepath.Dir(path); parent != path {
		if err := d.mkdir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, directoryMode); err != nil {
		return err
	}
	d.created = append(d.created, path)
	return nil
}

// Before has f called before every change of a file; its error ends the run as a crash would. It is for tests.
func (d *Dir) Before(f func(what string) error) { d.step = f }

func (d *Dir) at(what string) error {
	if d.step == nil {
		return nil
	}
	return d.step(what)
}
