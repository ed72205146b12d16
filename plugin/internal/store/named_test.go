package store

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestATenantsNameIsAKeyOfItsOwn(t *testing.T) {
	keys := map[string]bool{}
	for _, tenant := range []string{"", "a", "b", "web"} {
		for _, name := range []string{"a", "b", "web"} {
			keys[NamedKey(GroupPrefix, tenant, name)] = true
		}
	}
	if len(keys) != 12 {
		t.Errorf("%d keys for 12 groups: %v", len(keys), keys)
	}
	if got := NamedKey(GroupPrefix, "", "web"); got != "group/-/web" {
		t.Error(got)
	}
}

func TestWhoeverDeletesIsAloneAndSeesWhoReferredMeanwhile(t *testing.T) {
	l := NewNamedLocks()
	var sharing, alone atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				release := l.Share("acme", "web")
				sharing.Add(1)
				if alone.Load() != 0 {
					t.Error("shared while somebody is alone")
				}
				sharing.Add(-1)
				release()
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 200 {
				release := l.Lock("acme", "web")
				if alone.Add(1) != 1 || sharing.Load() != 0 {
					t.Error("not alone")
				}
				alone.Add(-1)
				release()
			}
		})
	}
	wg.Wait()

	release := l.Lock("acme", "web")
	before := l.Shares("acme", "web")
	release()
	release = l.Lock("acme", "web")
	if l.Shares("acme", "web") != before {
		t.Error("a share was counted that was none")
	}
	release()
	l.Share("acme", "web")()
	if l.Shares("acme", "web") == before {
		t.Error("a share was not counted")
	}
}

func TestTenantsDoNotWaitForEachOther(t *testing.T) {
	l := NewNamedLocks()
	if l.stripe("", "web") == l.stripe("a", "web") && l.stripe("b", "web") == l.stripe("a", "web") && l.stripe("c", "web") == l.stripe("a", "web") {
		t.Error("all tenants share a stripe")
	}
}
