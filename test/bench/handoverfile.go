package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ampora/ampora/test/handoverfile"
)

// fileDescription is how long the description of an agent in a handover file is, in bytes.
const fileDescription = 2000

// measureHandoverFile says how long it takes to make, inspect and redeem one file for many agents, between two Vaults of its own,
// with the ampora command.
func (b *bench) measureHandoverFile(ctx context.Context) (err error) {
	b.say("two more Vaults, and %d agents with descriptions of 2 kB", b.moved)
	pair, err := handoverfile.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pair.Stop()) }()
	if err := pair.Enrol(ctx, b.moved, fileDescription); err != nil {
		return err
	}
	file := filepath.Join(b.dir, "web.handover")
	for _, step := range []struct {
		key, what string
		side      *handoverfile.Side
		args      []string
	}{
		{"make", "make one handover file", pair.Source, []string{"make", "--peer", pair.Target.Name, "--group", handoverfile.Group, "--out", file}},
		{"inspect", "inspect it at the target", pair.Target, []string{"inspect", file}},
		{"redeem", "redeem it at the target", pair.Target, []string{"redeem", "--yes", file}},
		{"progress", "ask how far it has come", pair.Target, []string{"progress", file}},
	} {
		b.say("%s", step.what)
		began := time.Now()
		got, err := pair.Run(ctx, step.side, step.args...)
		if err != nil || got.Code != 0 {
			return fmt.Errorf("%s: ended with %d, %w: %s", step.what, got.Code, err, got.Err)
		}
		b.report.add("handoverfile-"+step.key, figures{What: step.what, Unit: "s", Ours: []float64{time.Since(began).Seconds()}})
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	b.report.note("A handover file of %d agents with descriptions of 2 kB has %.1f MB (%.1f kB an agent).", b.moved, float64(info.Size())/1e6, float64(info.Size())/1e3/float64(b.moved))
	return nil
}
