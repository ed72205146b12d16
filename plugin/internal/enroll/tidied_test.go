package enroll_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// between is a storage that lets something happen after a token's row was read.
type between struct {
	logical.Storage
	happens func(key string)
}

func (s *between) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	entry, err := s.Storage.Get(ctx, key)
	if entry != nil && strings.HasPrefix(key, "token/") {
		s.happens(key)
	}
	return entry, err
}

// A sweep may take a token's row away between the look at it and the lock.
func TestATokenThatIsTidiedAwayMeanwhileIsUnknownAndNotRedeemed(t *testing.T) {
	s := &between{Storage: &logical.InmemStorage{}, happens: func(string) {}}
	f := prepare(newWorld(t, &storetest.Faulty{Storage: s}), false)
	w := newWorld(t, &storetest.Faulty{Storage: s})
	s.happens = func(key string) { w.must(w.Store.Delete(t.Context(), key)) }
	if _, err := w.Token(t.Context(), "", f.issued.TokenID); apitype.CodeOf(err) != apitype.TokenUnknown {
		t.Errorf("%v", err)
	}
}
