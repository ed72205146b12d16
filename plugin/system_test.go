package ampora_test

import (
	"sync/atomic"
	"testing"
	"time"

	ampora "github.com/ampora/ampora/plugin"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// askedSystem counts what it is asked: in the plugin's process each question is a call to Vault.
type askedSystem struct {
	*logical.StaticSystemView
	asked atomic.Int64
}

func (s *askedSystem) ReplicationState() consts.ReplicationState {
	s.asked.Add(1)
	return s.StaticSystemView.ReplicationState()
}

func (s *askedSystem) LocalMount() bool {
	s.asked.Add(1)
	return s.StaticSystemView.LocalMount()
}

func TestRequestsDoNotAskVaultWhatItSaidASecondAgo(t *testing.T) {
	system := &askedSystem{StaticSystemView: logical.TestSystemView()}
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	storage := &logical.InmemStorage{}
	b, err := ampora.NewBackend(t.Context(), &logical.BackendConfig{StorageView: storage, Logger: hclog.NewNullLogger(), System: system}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Cleanup(t.Context()) })
	ask := func() error {
		_, err := b.HandleRequest(t.Context(), &logical.Request{Operation: logical.UpdateOperation, Path: apitype.PathRedeemCheck, Storage: storage})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	system.asked.Store(0)
	for range 10 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if n := system.asked.Load(); n != 0 {
		t.Errorf("ten requests of one second asked %d times", n)
	}
	c.advance(2 * time.Second)
	system.ReplicationStateVal = consts.ReplicationPerformanceSecondary
	if err := ask(); err != logical.ErrReadOnly {
		t.Errorf("a node that has become a secondary two seconds ago answers %v itself", err)
	}
}
