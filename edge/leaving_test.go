package edge_test

import (
	"context"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestAnEdgeThatIsStoppedIsNotMissed(t *testing.T) {
	w := newWorld(t)
	edges := func() []string {
		list, err := w.vault.Edges(t.Context(), apitype.Page{})
		if err != nil {
			t.Fatal(err)
		}
		return list.Keys
	}
	w.eventually("the edge has reported", 20*time.Second, func() bool { return len(edges()) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.edge.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if got := edges(); len(got) != 0 {
		t.Errorf("still listed: %v", got)
	}
}
