package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ampora/ampora/test/vaulttest"
)

// server is what agents connect to: an edge, or the bare one.
type server struct {
	*child
	url    string
	base   string // of an edge's other paths, https
	admin  string // an edge's admin listener, host:port
	agents *child // those of this server
}

// edgeOptions are what edges differ in.
type edgeOptions struct {
	name           string
	mount          string // default: the engine's usual one
	token          string // of Vault
	vault          string // its address; default: that of the run
	ownCertificate bool   // the run's certificate instead of one that the edge asks Vault for
	at             *server
}

// startEdge starts an edge as it is shipped, with its default settings, and waits until it is ready: where the server 'at' was,
// or somewhere.
func (b *bench) startEdge(ctx context.Context, log *os.File, o edgeOptions) (*server, error) {
	path, err := vaulttest.Bin("ampora-edge")
	if err != nil {
		return nil, err
	}
	var listen, admin string
	if o.at != nil {
		listen, admin = strings.TrimPrefix(o.at.base, "https://"), o.at.admin
	} else if listen, admin, err = freeAddresses(); err != nil {
		return nil, err
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "VAULT_ADDR=" + cmp.Or(o.vault, b.vault.server.Addr), "VAULT_TOKEN=" + o.token}
	args := []string{"--listen", listen, "--admin-listen", admin, "--name", o.name}
	if o.mount != "" {
		args = append(args, "--mount", o.mount)
	}
	if o.ownCertificate {
		args = append(args, "--tls-cert", b.file(certFile), "--tls-key", b.file(keyFile), "--tls-ca", b.file(caFile))
	}
	c, err := begin(log, env, path, args...)
	if err != nil {
		return nil, err
	}
	s := &server{child: c, url: "wss://" + listen + "/v1/opamp", base: "https://" + listen, admin: admin}
	for end := time.Now().Add(time.Minute); ; {
		if _, err = s.ask(ctx, "/readyz"); err == nil {
			return s, nil
		}
		if !c.Running() || time.Now().After(end) || ctx.Err() != nil {
			c.end()
			return nil, fmt.Errorf("the edge does not become ready: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// freeAddresses are two on loopback that nobody listens on at the moment.
func freeAddresses() (a, b string, err error) {
	var l [2]net.Listener
	for i := range l {
		if l[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", "", err
		}
		defer l[i].Close()
	}
	return l[0].Addr().String(), l[1].Addr().String(), nil
}

// ask reads a page of an edge's admin listener.
func (s *server) ask(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

// metric is the value of one line of an edge's /metrics.
func (s *server) metric(ctx context.Context, name string) (float64, error) {
	page, err := s.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(page) {
		if rest, found := strings.CutPrefix(l, name+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, fmt.Errorf("the edge has no metric %s", name)
}

// state reads what the server's process has now; the bare server does not tell its goroutines.
func (s *server) state(ctx context.Context) (now state, err error) {
	if now.resident, err = s.resident(); err == nil && s.admin != "" {
		now.goroutines, err = s.metric(ctx, "go_goroutines")
	}
	return now, err
}

// kill ends the server as a power failure would.
func (s *server) kill() {
	s.Signal(syscall.SIGKILL)
	<-s.Exited()
}

func (b *bench) startBare(log *os.File) (*server, error) {
	c, err := begin(log, []string{"PATH=" + os.Getenv("PATH")}, b.bareserver,
		"--tls-cert", b.file(certFile), "--tls-key", b.file(keyFile), "--client-ca", b.file(caFile))
	if err != nil {
		return nil, err
	}
	address, err := c.line()
	if err != nil {
		c.end()
		return nil, err
	}
	return &server{child: c, url: "wss://" + address + "/v1/opamp"}, nil
}

// startAgents starts a process of agents.
func startAgents(log *os.File, crew string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return begin(log, os.Environ(), program, "agents", crew)
}

// tell has the agents' process do something and waits for what comes of it.
func tell(agents *child, o order) (outcome, error) {
	var out outcome
	if err := json.NewEncoder(agents.in).Encode(o); err != nil {
		return out, err
	}
	text, err := agents.line()
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return out, err
	}
	if out.Error != "" {
		return out, fmt.Errorf("agents, %s: %s", o.Do, out.Error)
	}
	return out, nil
}

// explain closes the log of the programs, and adds its end to an error.
func (b *bench) explain(ctx context.Context, log *os.File, err error) error {
	_ = log.Close()
	if err == nil || ctx.Err() != nil {
		return err
	}
	raw, _ := os.ReadFile(log.Name())
	return fmt.Errorf("%w\nthe end of what the programs logged:\n%s", err, raw[max(0, len(raw)-2000):])
}

// spares are the files that a process has open besides the connections of agents.
const spares = 500

// allowFiles sees to it that a process may have as many connections. Its children, which are Go programs, raise their own
// limit as far as they may.
func allowFiles(connections int) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	need := uint64(connections + spares)
	if l.Cur >= need {
		return nil
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: need, Max: max(l.Max, need)}); err != nil {
		return fmt.Errorf("%d agents need %d open files in a process, and %d are allowed: run 'ulimit -n %d' as a user who may, or have fewer with --agents",
			connections, need, l.Max, need)
	}
	return nil
}

// quantile is the smallest of all that so large a share is not above.
func quantile(all []float64, share float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// since are moments as seconds after another one.
func since(start time.Time, moments []int64) []float64 {
	all := make([]float64, len(moments))
	for i, at := range moments {
		all[i] = time.Unix(0, at).Sub(start).Seconds()
	}
	return all
}

// counts writes a tally as text, the most frequent first.
func counts(tally map[string]int) string {
	if len(tally) == 0 {
		return "none"
	}
	var all []string
	for code := range tally {
		all = append(all, code)
	}
	slices.SortFunc(all, func(a, b string) int { return tally[b] - tally[a] })
	for i, code := range all {
		all[i] = fmt.Sprintf("%s %d times", code, tally[code])
	}
	return strings.Join(all, ", ")
}
