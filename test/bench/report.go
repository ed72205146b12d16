package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is what a run has found.
type report struct {
	Environment environment        `json:"environment"`
	Figures     map[string]figures `json:"figures"`
	Order       []string           `json:"-"` // of the figures, as they came
	Targets     []row              `json:"targets"`
	Notes       []string           `json:"notes"`
	Seconds     float64            `json:"seconds"`
}

type environment struct {
	Processors int    `json:"processors"`
	System     string `json:"system"`
	Go         string `json:"go"`
	Vault      string `json:"vault"`
	Ampora     string `json:"ampora"`
	Started    string `json:"started"`
}

// row is one line of the final table: a figure, and what it should reach.
type row struct {
	What     string  `json:"what"`
	Measured string  `json:"measured"`
	Against  string  `json:"against"`
	Ratio    float64 `json:"ratio,omitempty"`
	Start    string  `json:"start"`
	Aim      string  `json:"aim"`
	Reached  string  `json:"reached"` // no, start or aim
}

func (r *report) add(key string, f figures) {
	if r.Figures == nil {
		r.Figures = map[string]figures{}
	}
	r.Figures[key] = f
	r.Order = append(r.Order, key)
}

func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// ratios are ours to theirs, round by round: a machine that slows down slows both.
func (f figures) ratios() []float64 {
	var all []float64
	for i, t := range f.Theirs {
		if i < len(f.Ours) && t > 0 {
			all = append(all, f.Ours[i]/t)
		}
	}
	return all
}

// target is what a figure should reach; a ratio where there is something to compare with, else the figure itself.
type target struct {
	key        string
	what       string
	against    string
	start, aim float64
	less       bool // less is better
	aimText    string
}

var targets = []target{
	{key: "enrol-loaded", what: "enrol one agent (check + redeem)", against: "AppRole login + pki/sign", start: 1.3, aim: 3},
	{key: "issue-loaded", what: "issue a token", against: "AppRole secret-id", start: 1, aim: 1},
	{key: "issue-count", what: "issue a token, 1,000 with a request", against: "AppRole secret-id", start: 1, aim: 5},
	{key: "writes-redeem", what: "storage writes per redemption", start: 3, aim: 2, less: true},
	{key: "writes-issue", what: "storage writes per issue", start: 2, aim: 0.99, less: true, aimText: "<1"},
	{key: "writes-issue-count", what: "storage writes per token with count", start: 2, aim: 0.99, less: true, aimText: "<1"},
	{key: "expired-issue", what: "issue a token at many expired ones", against: "the same at none", start: 0.9, aim: 1},
	{key: "expired-enrol", what: "check + redeem at many expired tokens", against: "the same at none", start: 0.9, aim: 1},
	{key: "expired-enrol-batch", what: "check + redeem one of a batch at many expired tokens", against: "the same at none", start: 0.9, aim: 1},
	{key: "sweep-issue", what: "issue a token while many are tidied away", against: "the same before", start: 0.9, aim: 1},
	{key: "sweep-enrol", what: "check + redeem while many tokens are tidied away", against: "the same before", start: 0.9, aim: 1},
	{key: "sweep-enrol-batch", what: "check + redeem one of a batch while many tokens are tidied away", against: "the same before", start: 0.9, aim: 1},
	{key: "tidied-issue", what: "issue a token after many were tidied away", against: "the same at none", start: 0.9, aim: 1},
	{key: "tidied-enrol", what: "check + redeem after many tokens were tidied away", against: "the same at none", start: 0.9, aim: 1},
	{key: "tidied-enrol-batch", what: "check + redeem one of a batch after many tokens were tidied away", against: "the same at none", start: 0.9, aim: 1},
	{key: "events-few", what: "filter many events, one matches", start: 1, aim: 0.1, less: true},
	{key: "events-many", what: "filter many events, nearly all match", start: 1, aim: 0.1, less: true},
	{key: "events-none", what: "filter many events, none matches", start: 1, aim: 0.1, less: true},
	{key: "memory", what: "memory per idle mTLS agent", against: "bare opamp-go server", start: 1.2, aim: 1, less: true},
	{key: "reconnects", what: "reconnects on an edge", against: "bare opamp-go server", start: 0.9, aim: 1},
	{key: "left-goroutines", what: "goroutines left when all agents have gone", start: leftGoroutines, aim: 0, less: true},
	{key: "left-memory", what: "memory left when all agents have gone, of what they took", start: leftShare, aim: 1, less: true},
	{key: "revoke", what: "revoke one leaf at many revoked", against: "the same at none", start: 1.1, aim: 1, less: true},
	{key: "revoke-closed", what: "revocation to closed session, both edges", start: 5, aim: 1, less: true},
	{key: "crl", what: "list of many revoked certificates from an edge", start: 100, aim: 100, less: true},
	{key: "crl-vault", what: "list of many revoked certificates from Vault", start: 100, aim: 100, less: true},
	{key: "revoked-set", what: "an edge's set of many revoked agents", start: 20, aim: 20, less: true},
	{key: "handoverfile-make", what: "make one handover file for a group", start: 0, aim: 60, less: true},
	{key: "handoverfile-redeem", what: "redeem all of it at the target", start: 0, aim: 60, less: true},
	{key: "handover-p99", what: "handover, confirm to active on the target, 99 of 100", start: 5, aim: 1, less: true},
	{key: "audit", what: "audit log per idle edge and day", start: 0, aim: 50, less: true},
}

// What an edge may keep of agents that have gone. Its idle connections to Vault come and go, and it remembers a little of
// each agent on purpose: how often it has connected lately.
const (
	leftGoroutines = 10
	leftShare      = 10 // percent of what they took
)

func (r *report) judge() {
	r.Targets = nil
	for _, t := range targets {
		f, found := r.Figures[t.key]
		if !found {
			continue
		}
		line := row{What: t.what, Measured: amount(median(f.Ours), f.Unit), Reached: "no"}
		value, format := median(f.Ours), func(v float64) string { return amount(v, f.Unit) }
		if ratios := f.ratios(); len(ratios) > 0 {
			value, format = median(ratios), func(v float64) string { return fmt.Sprintf("%gx", v) }
			line.Ratio, line.Against = value, fmt.Sprintf("%s: %s", t.against, amount(median(f.Theirs), f.Unit))
		}
		line.Start, line.Aim = format(t.start), format(t.aim)
		if t.aimText != "" {
			line.Aim = t.aimText
		}
		reached := func(wanted float64) bool { return t.less && value <= wanted || !t.less && value >= wanted }
		switch {
		case t.start == 0:
			line.Start = "printed"
			if reached(t.aim) {
				line.Reached = "aim"
			}
		case reached(t.aim):
			line.Reached = "aim"
		case reached(t.start):
			line.Reached = "start"
		}
		r.Targets = append(r.Targets, line)
	}
	// Writes have a yardstick that was counted in the same run.
	for i := range r.Targets {
		if r.Targets[i].What == "storage writes per redemption" {
			r.Targets[i].Against = fmt.Sprintf("AppRole login + pki/sign: %g", r.single("writes-login")+r.single("writes-sign"))
		}
		if r.Targets[i].What == "storage writes per issue" {
			r.Targets[i].Against = fmt.Sprintf("AppRole secret-id: %g", r.single("writes-secret-id"))
		}
	}
}

func (r *report) single(key string) float64 { return median(r.Figures[key].Ours) }

func amount(v float64, unit string) string {
	switch unit {
	case "per second":
		return fmt.Sprintf("%.0f/s", v)
	case "storage writes":
		return fmt.Sprintf("%.3g", v)
	}
	return strings.TrimSpace(fmt.Sprintf("%.3g %s", v, unit))
}

// print writes the tables for people.
func (r *report) print(to io.Writer) error {
	r.judge()
	e := r.Environment
	fmt.Fprintf(to, "\nAmpora %s, Vault %s with Raft storage and a file audit device, %s, %s, %d processors, %s\n",
		e.Ampora, e.Vault, e.Go, e.System, e.Processors, e.Started)
	fmt.Fprintf(to, "Medians of rounds in which the two sides take turns; a ratio is the median of the rounds' ratios, lowest and highest beside it.\n\n")
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tAmpora\tcompared with\tratio\tlowest\thighest")
	fmt.Fprintln(w, "------\t------\t-------------\t-----\t------\t-------")
	for _, key := range r.Order {
		f := r.Figures[key]
		theirs, ratio, low, high := "", "", "", ""
		if all := f.ratios(); len(all) > 0 {
			theirs = amount(median(f.Theirs), f.Unit)
			ratio, low, high = times(median(all)), times(slices.Min(all)), times(slices.Max(all))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.What, amount(median(f.Ours), f.Unit), theirs, ratio, low, high)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "what\tmeasured\tagainst\tratio\tstart\taim\treached")
	fmt.Fprintln(w, "----\t--------\t-------\t-----\t-----\t---\t-------")
	for _, t := range r.Targets {
		ratio := ""
		if t.Ratio > 0 {
			ratio = times(t.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.What, t.Measured, t.Against, ratio, t.Start, t.Aim, t.Reached)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(to, "\n%s\nThe run took %.0f s.\n", strings.Join(r.Notes, "\n"), r.Seconds)
	return nil
}

func times(v float64) string { return fmt.Sprintf("%.2fx", v) }

func (r *report) save(path string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
