package authority_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/hashicorp/vault/sdk/logical"
)

func TestTheSequenceGoesUpWithEveryChangeOfTheAnchors(t *testing.T) {
	w := newWorld(t)
	last := w.set().Sequence()
	moved := func(want bool, what string) {
		t.Helper()
		now := w.set().Sequence()
		if (now > last) != want {
			t.Errorf("%s: from %d to %d", what, last, now)
		}
		if again := w.restart().set().Sequence(); again != now {
			t.Errorf("%s: %d after a restart, and %d before", what, again, now)
		}
		last = now
	}
	first := w.root(time.Hour)
	moved(true, "the first issuer")
	second := w.root(time.Hour)
	moved(false, "a draft")
	w.activate(second)
	moved(true, "another one signs")
	w.activate(second)
	moved(false, "the same again")
	w.activate(first)
	moved(true, "and back")
	w.must(w.retire(second, false))
	moved(true, "one is retired")
	draft := w.root(time.Hour)
	w.must(w.retire(draft, false))
	moved(false, "a draft is retired")
	*w.clock -= 30 * 24 * time.Hour // a clock that was far ahead has been set right
	w.activate(w.root(365 * 24 * time.Hour))
	moved(true, "with an earlier clock")
}

func TestWhoSignsForSomebodyIsSomebodyHeKnows(t *testing.T) {
	w := newWorld(t)
	var ids []string
	var at []uint64
	for range 3 {
		id := w.root(time.Duration(4-len(ids)) * time.Hour)
		w.activate(id)
		ids, at = append(ids, id), append(at, w.set().Sequence())
		*w.clock += time.Second
	}
	signer := func(known uint64) string {
		t.Helper()
		i, err := w.set().Signer(time.Now().Add(*w.clock), time.Minute, known)
		w.must(err)
		return i.ID
	}
	for known, want := range map[uint64]string{0: ids[0], at[0]: ids[0], at[1] - 1: ids[0], at[1]: ids[1], at[2]: ids[2], at[2] + 1: ids[2]} {
		if got := signer(known); got != want {
			t.Errorf("%d: %s signs instead of %s", known, got, want)
		}
	}
	*w.clock += 2 * time.Hour // the newest, which lives shortest, has expired
	if got := signer(at[2]); got != ids[1] {
		t.Error("an issuer that has expired signs")
	}
	if n := len(w.set().Shown(time.Now().Add(*w.clock), 0)); n != 2 {
		t.Errorf("%d are shown", n)
	}
	*w.clock += 3 * time.Hour
	_, err := w.set().Signer(time.Now().Add(*w.clock), time.Minute, 0)
	w.no("issuer_missing", err)
}

// Rows of before the sequence are as if everybody knew their anchors.
func TestAnchorsOfBeforeTheSequence(t *testing.T) {
	w := newWorld(t)
	first := w.root(time.Hour)
	entry, err := w.storage.Get(t.Context(), "ca/state")
	w.must(err)
	text := string(entry.Value)
	const field = `,"sequence":`
	for at := strings.Index(text, field); at >= 0; at = strings.Index(text, field) {
		rest := text[at+len(field):]
		text = text[:at] + rest[strings.IndexAny(rest, ",}"):]
	}
	w.must(w.storage.Put(t.Context(), &logical.StorageEntry{Key: "ca/state", Value: []byte(text)}))
	w = w.restart()
	if got := w.set().Sequence(); got != 1 {
		t.Errorf("sequence %d", got)
	}
	second := w.root(time.Hour)
	w.activate(second)
	var i *ca.Issuer
	if i, err = w.set().Signer(time.Now(), time.Minute, 1); err != nil || i.ID != first {
		t.Errorf("%v, %v", i, err)
	}
	if i, err = w.set().Signer(time.Now(), time.Minute, w.set().Sequence()); err != nil || i.ID != second {
		t.Errorf("%v, %v", i, err)
	}
}
