package vaultgate

import (
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	minted, given := traits{minted: true}, traits{}
	for name, c := range map[string]struct {
		left, whole time.Duration
		renewable   bool
		traits      traits
		login       bool
		from, to    time.Duration
	}{
		"a root token is left alone":                      {0, 0, false, given, false, never, never},
		"a fresh token is renewed at two thirds":          {time.Hour, time.Hour, true, minted, false, 34 * time.Minute, 40 * time.Minute},
		"a given token too":                               {time.Hour, time.Hour, true, given, false, 34 * time.Minute, 40 * time.Minute},
		"a batch token is replaced at half":               {time.Hour, time.Hour, false, minted, true, 24 * time.Minute, 30 * time.Minute},
		"a token near its maximum is replaced":            {20 * time.Minute, time.Hour, true, minted, true, 8 * time.Minute, 10 * time.Minute},
		"a given one near its maximum is renewed further": {20 * time.Minute, time.Hour, true, given, false, 10 * time.Minute, 14 * time.Minute},
		"one that cannot be renewed runs out":             {time.Minute, time.Hour, false, given, true, time.Minute, time.Minute},
		"a token of a second is no busy loop":             {10 * time.Millisecond, time.Second, true, given, false, minStep, minStep},
		"one that has ended needs a login now":            {-time.Second, time.Hour, true, given, true, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for range 50 { // the times are spread at random
				got := plan(c.left, c.whole, c.renewable, c.traits)
				if got.login != c.login || got.after < c.from || got.after > c.to {
					t.Fatalf("%+v, want login %v between %s and %s", got, c.login, c.from, c.to)
				}
			}
		})
	}
}
