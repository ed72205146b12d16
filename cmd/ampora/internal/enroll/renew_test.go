package enroll

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

// renew runs the command, with --force unless that is taken back.
func (w *world) renew(dir string, change ...func(*RenewCmd)) result {
	w.Helper()
	c := &RenewCmd{Dir: dir, Force: true, Timeout: 20 * time.Second}
	for _, f := range change {
		f(c)
	}
	con, out, errs := terminal()
	err := c.Run(w.Context(), con)
	if err != nil {
		hint.Print(errs, err)
	}
	return result{out.String(), errs.String(), err}
}

func terminal() (con *console.Console, out, errs *bytes.Buffer) {
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	return &console.Console{In: strings.NewReader(""), Out: out, Err: errs, Getenv: func(string) string { return "" }}, out, errs
}

// mustRenew runs the command and holds that the directory then has another certificate of the same agent, which works.
func (w *world) mustRenew(dir string, change ...func(*RenewCmd)) *idfiles.Identity {
	w.Helper()
	before := w.agentOf(w.identity(dir))
	r := w.renew(dir, change...)
	if r.err != nil {
		w.Fatalf("renewing: %s", r.text)
	}
	id := w.identity(dir)
	if after := w.agentOf(id); after.agentID != before.agentID || after.leaf.SerialNumber.Cmp(before.leaf.SerialNumber) == 0 {
		w.Fatalf("certificate %s of agent %s after %s of agent %s", after.leaf.SerialNumber, after.agentID, before.leaf.SerialNumber, before.agentID)
	}
	if err := knockWith(w.Context(), id); err != nil {
		w.Fatalf("connecting with what was written: %v", err)
	}
	return id
}

func (w *world) agentOf(id *idfiles.Identity) *whose {
	w.Helper()
	who, err := describe(id)
	if err != nil {
		w.Fatal(err)
	}
	return who
}

// untilConfirmed waits until an identity's certificate is its agent's only one.
func (w *world) untilConfirmed(id *idfiles.Identity) {
	w.Helper()
	who := w.agentOf(id)
	var row *apitype.Agent
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
		var err error
		if row, err = w.client.Agent(w.Context(), who.agentID); err == nil && row.Fingerprint == identity.Fingerprint(who.leaf.Raw) && row.NextSerialNumber == "" {
			return
		}
	}
	w.Fatalf("the engine has not heard that the certificate is applied: %+v", row)
}

func TestAnIdentityOnDiskGetsItsNextCertificate(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		scheme, kind string
		newKey       bool
	}{
		"the same key":           {"wss", "ec", false},
		"the same key over HTTP": {"https", "rsa", false},
		"a new key":              {"wss", "ec", true},
		"a new key over HTTP":    {"https", "p384", true},
		"a new key, Ed25519":     {"wss", "ed25519", true},
		"a new key, RSA":         {"wss", "rsa", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "id")
			old := w.mustEnrol(dir, w.token(), func(cmd *Cmd) { cmd.Endpoint, cmd.KeyType = w.endpoint(c.scheme), c.kind })
			w.write(filepath.Join(dir, idfiles.Supervisor), "# mine\n")
			id := w.mustRenew(dir, func(cmd *RenewCmd) { cmd.NewKey = c.newKey })
			if bytes.Equal(id.Key, old.Key) == c.newKey || !bytes.Equal(id.CA, old.CA) || id.Endpoint != old.Endpoint || id.InstanceUID != old.InstanceUID {
				t.Errorf("after the renewal: %+v, before: %+v", id, old)
			}
			was, err := parseKey(old.Key)
			if err != nil {
				t.Fatal(err)
			}
			if key, err := parseKey(id.Key); err != nil || kindOf(key) != kindOf(was) || kindOf(key) != c.kind {
				t.Errorf("key %T, %v", key, err)
			}
			if data, err := os.ReadFile(filepath.Join(dir, idfiles.Supervisor)); err != nil || string(data) != "# mine\n" {
				t.Errorf("what was added to the settings: %q, %v", data, err)
			}
			w.untilConfirmed(id)
			row, err := w.client.Agent(t.Context(), w.agentOf(id).agentID)
			if err != nil || !strings.Contains(row.Description, "a-collector") {
				t.Errorf("renewing changed what the agent says of itself: %+v %v", row, err)
			}
			w.untilRefused(old)
		})
	}
}

func TestACertificateIsRenewedWhenTwoThirdsOfItsLifeAreOver(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	issued := time.Now()
	before := w.mustEnrol(dir, w.token())
	if r := w.renew(dir, func(c *RenewCmd) { c.Force = false }); r.err != nil || !strings.Contains(r.out, "--force") {
		t.Errorf("said %q, %v", r.out, r.err)
	}
	life := w.agentOf(before).leaf.NotAfter.Sub(issued)
	for _, c := range []struct {
		at      time.Time
		renewed bool
	}{{issued.Add(life*2/3 - time.Hour), false}, {issued.Add(life*2/3 + time.Hour), true}} {
		d, err := idfiles.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		con, _, _ := terminal()
		r := (&RenewCmd{Dir: dir, Timeout: 20 * time.Second, Jitter: 100 * time.Millisecond}).renewal(con, d, nil)
		r.now = func() time.Time { return c.at }
		if err := errors.Join(r.run(t.Context()), d.Close()); err != nil {
			t.Fatal(err)
		}
		if renewed := !bytes.Equal(w.identity(dir).Cert, before.Cert); renewed != c.renewed {
			t.Errorf("at %s: renewed is %v", c.at, renewed)
		}
	}
}

// TestTheNextHomeIsKept: an offer says where to connect from then on, and by which roots.
func TestTheNextHomeIsKept(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	old := w.mustEnrol(dir, w.token())
	cert, key, ca := publicCertificate(t)
	roots, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	home := freeAddr(t)
	// An edge that knows the next home, where the edges have a certificate of another CA.
	behind := freeAddr(t)
	move := func(o *edge.Options) { o.Name, o.TLSCert, o.TLSKey, o.TLSCA = "edge-2", cert, key, ca }
	w.start(behind, move, func(o *edge.Options) { o.Advertise = "wss://" + home + "/v1/opamp" })
	asking := func(c *RenewCmd) {
		c.Endpoint, c.CAFile, c.Timeout = "wss://"+behind+"/v1/opamp", ca, 4*time.Second
	}
	w.refuses("", w.renew(dir, asking), "connecting with it failed", "is as it was", "kept beside it")
	if err := knockWith(t.Context(), old); err != nil {
		t.Fatalf("the identity no longer works: %v", err)
	}
	w.start(home, move)
	if r := w.renew(dir); r.err != nil { // the old home need not be asked: the answer is there
		t.Fatal(r.text)
	}
	id := w.identity(dir)
	if id.Endpoint != "wss://"+home+"/v1/opamp" || !bytes.Contains(id.CA, bytes.TrimSpace(roots)) || bytes.Equal(id.CA, old.CA) {
		t.Errorf("the next home is %s, verified by\n%s", id.Endpoint, id.CA)
	}
	for _, name := range []string{idfiles.Supervisor, idfiles.Extension} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(data, []byte(home)) {
			t.Errorf("%s: %v\n%s", name, err, data)
		}
	}
	w.untilConfirmed(id)
}

// TestACrashWhileRenewingStrandsNobody ends a renewal at its n-th change of a file, for every n. An identity of the old key or
// of the new one is there at once or after the next run, and works.
func TestACrashWhileRenewingStrandsNobody(t *testing.T) {
	w := newWorld(t)
	crash := errors.New("crash")
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "id")
		old := w.mustEnrol(dir, w.token())
		d, err := idfiles.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		steps := 0
		d.Before(func(string) error {
			if steps++; steps == n {
				return crash
			}
			return nil
		})
		con, _, _ := terminal()
		err = (&RenewCmd{Dir: dir, Force: true, NewKey: true, Timeout: 20 * time.Second}).renewal(con, d, nil).run(t.Context())
		if closed := d.Close(); closed != nil {
			t.Fatal(closed)
		}
		if err == nil {
			if n < 20 {
				t.Errorf("only %d steps were counted", n)
			}
			return
		}
		if !errors.Is(err, crash) {
			t.Fatal(err)
		}
		r := w.renew(dir, func(c *RenewCmd) { c.NewKey = true })
		if r.err != nil {
			t.Fatalf("step %d: the next run: %s", n, r.text)
		}
		id := w.identity(dir)
		if bytes.Equal(id.Cert, old.Cert) || bytes.Equal(id.Key, old.Key) {
			t.Fatalf("step %d: the next run has not renewed", n)
		}
		if err := knockWith(t.Context(), id); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
	}
}
