package vaulttest

import (
	"context"
	"testing"
	"time"
)

// TestAClusterOutlivesEachOfItsNodes makes the leadership go round in the three ways that there are.
func TestAClusterOutlivesEachOfItsNodes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	start := time.Now()
	c := StartCluster(t)
	t.Logf("up after %v", time.Since(start))
	leader, err := c.Leader(ctx)
	must(t, err)
	must(t, leader.EnableSecrets(ctx, "kv", "kv", ""))
	client := c.Client()
	written := 0
	write := func() error {
		_, err := client.Logical().WriteWithContext(ctx, "kv/a", map[string]any{"n": written + 1})
		if err == nil {
			written++
		}
		return err
	}
	must(t, write())

	for _, c2 := range []struct {
		name string
		harm func(*Vault) (heal func())
	}{
		{"killed", func(v *Vault) func() { v.Kill(); return func() { must(t, v.Restart(ctx)) } }},
		{"stepped down", func(*Vault) func() { must(t, c.StepDown(ctx)); return func() {} }},
		{"cut off", func(v *Vault) func() { c.CutOff(v); return c.Mend }},
	} {
		before, err := c.Leader(ctx)
		must(t, err)
		start := time.Now()
		heal := c2.harm(before)
		var after *Vault
		for after = before; after == before; {
			after, err = c.Leader(ctx)
			must(t, err)
		}
		for write() != nil && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("%s was %s, %s leads and takes writes after %v", before.node.id, c2.name, after.node.id, time.Since(start))
		if c2.name == "cut off" {
			if status := before.health(ctx); status == 200 {
				t.Error("the node that is cut off still says that it leads")
			}
		}
		heal()
		must(t, c.Settled(ctx))
		s, err := client.Logical().ReadWithContext(ctx, "kv/a")
		if err != nil || s == nil {
			t.Fatalf("after %s: %v, %v", c2.name, s, err)
		}
	}
	pids := []int{c.Nodes[0].Pid(), c.Nodes[1].Pid(), c.Nodes[2].Pid()}
	for _, pid := range pids {
		if pid == 0 {
			t.Errorf("the processes in the end: %v", pids)
		}
	}
}
