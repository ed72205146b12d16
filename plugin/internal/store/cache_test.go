package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// counted is a storage that counts reads, and whose writes may fail after they were carried out.
type counted struct {
	logical.InmemStorage
	mu    sync.Mutex
	reads int
	fail  bool
	hold  chan struct{} // a read waits here between reading and answering
}

func (s *counted) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	s.mu.Lock()
	s.reads++
	hold := s.hold
	s.mu.Unlock()
	e, err := s.InmemStorage.Get(ctx, key)
	if hold != nil {
		hold <- struct{}{}
		<-hold
	}
	return e, err
}

func (s *counted) Put(ctx context.Context, e *logical.StorageEntry) error {
	if err := s.InmemStorage.Put(ctx, e); err != nil || !s.fail {
		return err
	}
	return errors.New("no answer")
}

func value(t *testing.T, s logical.Storage, key string) string {
	t.Helper()
	e, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if e == nil {
		return ""
	}
	return string(e.Value)
}

func put(t *testing.T, s logical.Storage, key, text string) error {
	return s.Put(t.Context(), &logical.StorageEntry{Key: key, Value: []byte(text)})
}

func TestTheCacheAnswersWhatWasLastWrittenOrRead(t *testing.T) {
	under := &counted{}
	c := NewCache(under)
	for _, key := range []string{"token/ab/abc", "agent/ab/abc", "group/-/web"} {
		under.reads = 0
		for range 2 { // that there is none is remembered, too
			if got := value(t, c, key); got != "" {
				t.Fatal(got)
			}
		}
		for _, text := range []string{"one", "two"} {
			if err := put(t, c, key, text); err != nil {
				t.Fatal(err)
			}
			if got := value(t, c, key); got != text {
				t.Fatalf("%q after %q was written", got, text)
			}
		}
		if err := c.Delete(t.Context(), key); err != nil || value(t, c, key) != "" {
			t.Fatal("a deleted row is there")
		}
		if under.reads != 1 {
			t.Errorf("%s: %d reads went through", key, under.reads)
		}
	}
	under.reads = 0
	value(t, c, "revoked/ab/abc")
	value(t, c, "revoked/ab/abc")
	if under.reads != 2 {
		t.Error("a row is remembered that others may need fresh")
	}
}

func TestTheCacheDoesNotTrustAFailedWriteNorWhatAnotherNodeWrote(t *testing.T) {
	under := &counted{}
	c := NewCache(under)
	const key = "token/ab/abc"
	if err := put(t, c, key, "one"); err != nil {
		t.Fatal(err)
	}
	under.fail = true
	if err := put(t, c, key, "two"); err == nil {
		t.Fatal("no error")
	}
	if got := value(t, c, key); got != "two" {
		t.Errorf("%q: a failed write that was carried out is not seen", got)
	}
	// One that failed may also arrive later, behind reads that did not see it.
	if err := put(t, under, key, "late"); err == nil {
		t.Fatal("no error")
	}
	if got := value(t, c, key); got != "late" {
		t.Errorf("%q: a failed write that arrived late is not seen", got)
	}
	under.fail = false
	if err := put(t, c, key, "four"); err != nil || value(t, c, key) != "four" {
		t.Errorf("a write after a failed one: %v", err)
	}
	under.reads = 0
	if value(t, c, key); under.reads != 0 {
		t.Error("the doubt did not end with a write that worked")
	}
	if err := put(t, under, key, "three"); err != nil {
		t.Fatal(err)
	}
	c.Forget(key)
	if got := value(t, c, key); got != "three" {
		t.Errorf("%q after another node wrote three", got)
	}
}

// A read that was under way while its key was written must not bring the old row back.
func TestAReadThatAWriteOvertakesIsNotRemembered(t *testing.T) {
	under := &counted{hold: make(chan struct{})}
	c := NewCache(under)
	const key = "agent/ab/abc"
	read := make(chan string)
	go func() { read <- value(t, c, key) }()
	<-under.hold // it has read that there is no row
	if err := put(t, c, key, "new"); err != nil {
		t.Fatal(err)
	}
	under.hold <- struct{}{}
	<-read
	under.mu.Lock()
	under.hold = nil
	under.mu.Unlock()
	if got := value(t, c, key); got != "new" {
		t.Errorf("%q: the overtaken read is remembered", got)
	}
}

func TestTheCacheIsRightUnderManyHands(t *testing.T) {
	c := NewCache(&counted{})
	var wg sync.WaitGroup
	for i := range 8 {
		key := fmt.Sprintf("token/%02x/row", i%4)
		for range 2 {
			wg.Go(func() { // readers
				for range 2000 {
					_, _ = c.Get(t.Context(), key)
				}
			})
		}
		if i < 4 {
			wg.Go(func() { // one writer for each key, as the locks see to
				for n := range 2000 {
					text := fmt.Sprint(n)
					if err := put(t, c, key, text); err != nil || value(t, c, key) != text {
						t.Errorf("%s is not %s", key, text)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}
