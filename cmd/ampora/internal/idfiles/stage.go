package idfiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Pending is an enrolment that was begun: the key is stored, the token may be spent. Or a renewal.
type Pending struct {
	Key         []byte // PEM, PKCS #8
	TokenID     string // public id of the token that was, or is about to be, spent; RenewalOf a certificate
	Endpoint    string // that was asked
	InstanceUID string
}

// RenewalOf stands in the place of a token's id when the certificate with this serial number is being renewed.
func RenewalOf(serial string) string { return renewal + serial }

// Renewal reports whether it is a renewal, and no enrolment.
func (p *Pending) Renewal() bool { return strings.HasPrefix(p.TokenID, renewal) }

const renewal = "renewal of "

// Pending reads an enrolment that an earlier run began; nil when there is none.
func (d *Dir) Pending() (*Pending, error) {
	read := func(name string) (string, error) {
		data, err := os.ReadFile(filepath.Join(d.path, stageDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return string(data), err
	}
	var (
		p    Pending
		key  string
		errs error
	)
	for name, to := range map[string]*string{Key: &key, tokenID: &p.TokenID, destination: &p.Endpoint, InstanceUID: &p.InstanceUID} {
		text, err := read(name)
		errs = errors.Join(errs, err)
		*to = strings.TrimSpace(text)
	}
	if errs != nil {
		return nil, errs
	}
	if key == "" || p.TokenID == "" || p.Endpoint == "" || p.InstanceUID == "" {
		return nil, nil
	}
	p.Key = []byte(key + "\n")
	return &p, nil
}

// Begin stores a key before its token is spent. An enrolment begun earlier is dropped.
func (d *Dir) Begin(p Pending) error {
	if err := d.Drop(); err != nil {
		return err
	}
	if err := d.at("mkdir stage"); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(d.File(stageDir), directoryMode), own(d.File(stageDir), d.path)); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{Key, p.Key},
		{destination, []byte(p.Endpoint + "\n")},
		{InstanceUID, []byte(p.InstanceUID + "\n")},
		{tokenID, []byte(p.TokenID + "\n")},
	} {
		if err := d.write(f.name, f.data); err != nil {
			return err
		}
	}
	return d.syncStage()
}

// Answer stores what the edge answered beside the pending key. It is not verified yet, and not in place.
func (d *Dir) Answer(id Identity, settings map[string][]byte) error {
	files := map[string][]byte{Cert: id.Cert, Endpoint: []byte(id.Endpoint + "\n")}
	if len(id.CA) > 0 {
		files[CA] = id.CA
	}
	for name, data := range settings {
		files[name] = data
	}
	if err := d.write(offerHash, id.Offer); err != nil {
		return err
	}
	// Cert last: Answered takes it for the sign that all is there.
	for _, name := range names() {
		if data, ok := files[name]; ok {
			if err := d.write(name, data); err != nil {
				return err
			}
		}
	}
	return d.syncStage()
}

// Answered is the identity that an earlier run was given and could not verify; nil when there is none.
func (d *Dir) Answered() (*Identity, error) {
	if _, err := os.Stat(filepath.Join(d.path, stageDir, Cert)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	id, err := d.read(d.File(stageDir))
	if err != nil {
		return nil, nil // an answer that was half written when the run ended is no answer
	}
	id.Offer, err = os.ReadFile(filepath.Join(d.path, stageDir, offerHash))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return id, nil
}

// Drop forgets an enrolment under way.
func (d *Dir) Drop() error {
	if err := d.at("drop stage"); err != nil {
		return err
	}
	return os.RemoveAll(d.File(stageDir))
}

// write makes one file of the stage durable under its name.
func (d *Dir) write(name string, data []byte) error {
	if err := d.at("write " + name); err != nil {
		return err
	}
	path := filepath.Join(d.path, stageDir, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, own(f.Name(), d.path), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := d.at("name " + name); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (d *Dir) syncStage() error { return errors.Join(syncDir(d.File(stageDir)), syncDir(d.path)) }
