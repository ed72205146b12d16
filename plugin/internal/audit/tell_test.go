package audit

import (
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// A commit whose record cannot be stored is told later, once, and until then known to be untold.
func TestWhatCannotBeToldAtOnceIsToldLater(t *testing.T) {
	storage := &storetest.Faulty{Storage: &logical.InmemStorage{}}
	l := NewLog(store.New(storage), time.Now, time.Hour)
	r := NewRecord(System(), time.Now(), apitype.Event{EntityType: "test", Action: "Test.Told"})
	storage.Arm(1, storetest.Refuse, storetest.Dead)
	l.Tell(t.Context(), r)
	if !l.Untold() {
		t.Fatal("a record that is not stored counts as told")
	}
	if err := l.Retell(t.Context()); err == nil || !l.Untold() {
		t.Fatal("a storage that is down took the record")
	}
	storage.Disarm()
	for range 2 {
		if err := l.Retell(t.Context()); err != nil || l.Untold() {
			t.Fatalf("still untold: %v", err)
		}
		l.Tell(t.Context(), r)
	}
	if events, _, err := l.Page(t.Context(), Query{}); err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
}
