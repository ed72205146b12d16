// Package audit reads the engine's audit trail for people: as a table, as JSON lines, followed live; and answers which agents
// came in through a leak, from the trail or from the file of Vault's audit device.
package audit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
)

// Cmd is "ampora audit".
type Cmd struct {
	Events EventsCmd `cmd:"" default:"withargs" help:"Show events, the newest first. This is what 'ampora audit' does without a further word."`
	Leak   LeakCmd   `cmd:"" help:"Which agents redeemed tokens of a pool, or one token, in a window: ready to be revoked."`
}

// window is a span of time.
type window struct {
	Since string `placeholder:"TIME" help:"Only of then and later: an RFC 3339 time, or how long ago, like 90m, 12h or 7d."`
	Until string `placeholder:"TIME" help:"Only of then and earlier."`
}

// times are the bounds as times; the zero time stands for none.
func (w window) times(now time.Time) (since, until time.Time, err error) {
	if since, err = parseTime(w.Since, now); err != nil {
		return since, until, fmt.Errorf("--since: %w", err)
	}
	if until, err = parseTime(w.Until, now); err != nil {
		return since, until, fmt.Errorf("--until: %w", err)
	}
	return since, until, nil
}

func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, found := strings.CutSuffix(text, "d"); found {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100_000 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, hint.New("that is no time", "give an RFC 3339 time like 2026-01-02T15:04:05Z, or how long ago, like 90m, 12h or 7d")
}

// rfc3339 writes a bound as the API takes it.
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
