package store

import (
	"fmt"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

func TestWhoPassesByTakesNobodysPlaceInTheCache(t *testing.T) {
	under := &counted{}
	c := NewCache(under)
	const inUse = "agent/ab/abc"
	if err := put(t, c, inUse, "row"); err != nil {
		t.Fatal(err)
	}
	ctx := InPassing(t.Context())
	for i := range 2 * cacheRows {
		key := fmt.Sprintf("token/%02x/%d", i%256, i)
		if err := under.Put(ctx, &logical.StorageEntry{Key: key, Value: []byte("old")}); err != nil {
			t.Fatal(err)
		}
		if entry, err := c.Get(ctx, key); err != nil || string(entry.Value) != "old" {
			t.Fatalf("%s: %v, %v", key, entry, err)
		}
		if err := c.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	under.reads = 0
	if got := value(t, c, inUse); got != "row" || under.reads != 0 {
		t.Errorf("the row in use is %q after %d reads", got, under.reads)
	}

	// It sees what is remembered, and what it removes is remembered no more.
	if entry, err := c.Get(ctx, inUse); err != nil || string(entry.Value) != "row" || under.reads != 0 {
		t.Errorf("in passing: %v, %v, %d reads", entry, err, under.reads)
	}
	if err := c.Delete(ctx, inUse); err != nil {
		t.Fatal(err)
	}
	if entry, err := c.Get(t.Context(), inUse); err != nil || entry != nil {
		t.Errorf("what was removed in passing is still there: %v, %v", entry, err)
	}
}
