package audit_test

import (
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/hashicorp/vault/sdk/logical"
)

// exchangeable is a storage that can be exchanged under whoever uses it.
type exchangeable struct{ logical.Storage }

func TestAfterTheStorageWasExchangedMemorySaysNothingOfTheOldOne(t *testing.T) {
	now := start
	s := &exchangeable{&logical.InmemStorage{}}
	l := audit.NewLog(store.New(s), func() time.Time { return now }, retention)
	kept, undone := record("Kept"), record("Undone")
	ensure(t, l, kept)

	backup := &logical.InmemStorage{}
	err := logical.ScanView(t.Context(), s.Storage.(*logical.InmemStorage), func(key string) {
		entry, err := s.Get(t.Context(), key)
		if err != nil || backup.Put(t.Context(), entry) != nil {
			t.Errorf("%s cannot be copied: %v", key, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, l, undone)
	s.Storage = backup
	l.Forget()

	now = now.Add(-time.Hour) // also with a clock that went back
	later := recordAt(now, "Later")
	ensure(t, l, later)
	if got := shown(t, l, audit.Query{}); got != "Later Kept" {
		t.Errorf("%q after the exchange", got)
	}
	// A row of the backup that still carries the record has it told: for this storage it happened, and was never told.
	ensure(t, l, undone)
	ensure(t, l, kept)
	ensure(t, l, later)
	if got := shown(t, l, audit.Query{}); got != "Undone Later Kept" {
		t.Errorf("%q: the record of a row that the backup has is told once", got)
	}
}
