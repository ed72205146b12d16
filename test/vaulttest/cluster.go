package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/relay"
	"github.com/hashicorp/vault/api"
)

// Cluster is one Vault on several nodes that share their Raft storage. Each node is a process and can be killed and
// restarted by itself. What the nodes say to each other goes through relays of ours, so that one can be cut off.
type Cluster struct {
	Nodes []*Vault
	// Addr is the http:// URL of a TCP round robin over all nodes, the dead ones left out. It knows nothing of who leads.
	Addr string

	balancer *relay.Relay

	mu    sync.Mutex
	lines map[string]*line // by the id of the node that they lead to
	cut   string           // the id of the node that is cut off, empty for none
}

// line is the way to a node's cluster listener.
type line struct {
	*relay.Relay
	target string
}

// RunCluster starts a cluster of that many nodes, and returns when all of them have a vote. The context bounds the start
// alone. It knows no TLS.
func RunCluster(ctx context.Context, nodes int, o Options) (*Cluster, error) {
	if o.TLS {
		return nil, errors.New("vaulttest: a cluster serves no TLS")
	}
	sweep(os.TempDir())
	c := &Cluster{lines: map[string]*line{}}
	for i := range nodes {
		if err := c.grow(ctx, fmt.Sprint("node-", i+1), o); err != nil {
			_ = c.Stop()
			return nil, err
		}
	}
	var addrs []string
	for _, v := range c.Nodes {
		addrs = append(addrs, v.node.tcp)
	}
	var err error
	if c.balancer, err = relay.New(addrs...); err == nil {
		c.Addr = "http://" + c.balancer.Addr()
		err = c.Settled(ctx)
	}
	if err != nil {
		_ = c.Stop()
		return nil, fmt.Errorf("vaulttest: %w", err)
	}
	return c, nil
}

// grow adds a node: the first one starts the Vault, the others join it.
func (c *Cluster) grow(ctx context.Context, id string, o Options) error {
	v, err := newVault(id, o)
	if err != nil {
		return err
	}
	v.node.reach = func(target string) (string, error) { return c.reach(id, target) }
	c.mu.Lock()
	c.Nodes = append(c.Nodes, v) // already now: its connections are to be known as its own
	c.mu.Unlock()
	if err = v.begin(ctx); err == nil {
		if first := c.Nodes[0]; first == v {
			err = c.found(ctx, v)
		} else {
			err = v.join(ctx, first)
		}
	}
	if err != nil {
		return v.abandon(err)
	}
	v.serves = []int{http.StatusOK, http.StatusTooManyRequests} // active, standby
	return nil
}

// found makes the first node a Vault that others can join.
func (c *Cluster) found(ctx context.Context, v *Vault) error {
	if err := v.initialise(ctx); err != nil {
		return err
	}
	_, err := v.client.Logical().WriteWithContext(ctx, "sys/storage/raft/autopilot/configuration", map[string]any{
		"server_stabilization_time": "1s", // until a node that has joined may vote
	})
	return err
}

// join makes the node a member of the other one's cluster.
func (v *Vault) join(ctx context.Context, first *Vault) error {
	v.RootToken, v.UnsealKey, v.auditLog = first.RootToken, first.UnsealKey, first.auditLog
	v.client.SetToken(v.RootToken)
	joined, err := v.client.Sys().RaftJoinWithContext(ctx, &api.RaftJoinRequest{LeaderAPIAddr: first.Addr})
	if err != nil || !joined.Joined {
		return fmt.Errorf("joining the cluster: %v, %w", joined, err)
	}
	// The key answers the leader's challenge, and unseals when the answer was good.
	if _, err := v.client.Sys().UnsealWithContext(ctx, v.UnsealKey); err != nil {
		return fmt.Errorf("joining the cluster: unseal: %w", err)
	}
	if err := v.node.await(ctx, v.client, http.StatusTooManyRequests); err != nil {
		return fmt.Errorf("joining the cluster: %w", err)
	}
	return nil
}

// health is the status with which sys/health answers, 0 when it does not.
func (v *Vault) health(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, _ := v.client.Logical().ReadRawWithContext(ctx, "sys/health") // an error beside an answer is about its status
	if r == nil {
		return 0
	}
	r.Body.Close()
	return r.StatusCode
}

// reach makes the relay to a node's cluster listener, unless it is there, and returns its address.
func (c *Cluster) reach(id, target string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[id]; l != nil && l.target == target {
		return l.Addr(), nil
	}
	r, err := relay.Named(c.nodeBehind, target)
	if err != nil {
		return "", err
	}
	if l := c.lines[id]; l != nil { // the port of the first try was taken
		l.Down()
	}
	c.lines[id] = &line{Relay: r, target: target}
	return r.Addr(), nil
}

// nodeBehind is the id of the node that has opened a connection.
func (c *Cluster) nodeBehind(conn net.Conn) string {
	c.mu.Lock()
	nodes := slices.Clone(c.Nodes)
	c.mu.Unlock()
	ids := map[int]string{}
	for _, v := range nodes {
		if pid := v.Pid(); pid != 0 {
			ids[pid] = v.node.id
		}
	}
	pid, _ := proc.Dialled(conn, slices.Collect(maps.Keys(ids)))
	return ids[pid]
}

// Leader waits for a node that says it is active, and is not cut off.
func (c *Cluster) Leader(ctx context.Context) (*Vault, error) {
	for {
		c.mu.Lock()
		cut := c.cut
		c.mu.Unlock()
		for _, v := range c.Nodes {
			if v.node.id != cut && v.Pid() != 0 && v.health(ctx) == http.StatusOK {
				return v, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for a leader: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Settled waits until every node has a vote and has caught up: the cluster would survive the loss of any one of them.
func (c *Cluster) Settled(ctx context.Context) error {
	for {
		leader, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		state, err := leader.client.Sys().RaftAutopilotStateWithContext(ctx)
		if err == nil && state != nil && state.Healthy && len(state.Voters) == len(c.Nodes) {
			for _, v := range c.Nodes {
				if err := v.node.await(ctx, v.client, v.serves...); err != nil {
					return err
				}
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for all nodes to have a vote: %v, %w", state, errors.Join(ctx.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// StepDown makes the active node give its place up.
func (c *Cluster) StepDown(ctx context.Context) error {
	leader, err := c.Leader(ctx)
	if err != nil {
		return err
	}
	return leader.client.Sys().StepDownWithContext(ctx)
}

// CutOff makes every byte between this node and the others stay on its way, until Mend. Clients still reach the node. It
// needs a system on which the relays can tell who calls them, which is Linux.
func (c *Cluster) CutOff(v *Vault) { c.hold(v.node.id) }

// Mend undoes CutOff.
func (c *Cluster) Mend() { c.hold("") }

func (c *Cluster) hold(cut string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for to, l := range c.lines {
		switch cut {
		case "":
			l.Hold(nil)
		case to:
			l.Hold(func(string) bool { return true })
		default:
			l.Hold(func(from string) bool { return from == cut })
		}
	}
}

// Client returns a client of its own for Addr, with the root token.
func (c *Cluster) Client() *api.Client {
	client := c.Nodes[0].Client()
	if err := client.SetAddress(c.Addr); err != nil {
		panic(err) // it is an address of ours
	}
	return client
}

// Env returns the environment in which programs reach Addr as root.
func (c *Cluster) Env() []string {
	return []string{"VAULT_ADDR=" + c.Addr, "VAULT_TOKEN=" + c.Nodes[0].RootToken}
}

// RegisterAmpora is Vault.RegisterAmpora, with the program on every node.
func (c *Cluster) RegisterAmpora(ctx context.Context, mount string) (version string, err error) {
	path, version, err := amporaProgram(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range c.Nodes {
		if _, _, err := v.addProgram(ampora, path, version); err != nil {
			return "", err
		}
	}
	leader, err := c.Leader(ctx)
	if err != nil {
		return "", err
	}
	return leader.RegisterAmpora(ctx, mount)
}

// Stop ends every node and removes everything that they had on disk.
func (c *Cluster) Stop() error {
	c.Mend()
	var ends sync.WaitGroup
	errs := make([]error, len(c.Nodes))
	for i, v := range c.Nodes {
		ends.Go(func() { errs[i] = v.Stop() })
	}
	ends.Wait()
	if c.balancer != nil {
		c.balancer.Close()
	}
	for _, l := range c.lines {
		l.Close()
	}
	return errors.Join(errs...)
}
