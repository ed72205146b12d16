package limits

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

func TestABucketEmptiesAndAnotherKeyKeepsItsOwn(t *testing.T) {
	k := NewKeyed[string](0.001, 3, 8)
	if k.Spent("a") {
		t.Fatal("a key never seen is spent")
	}
	for range 3 {
		if !k.Allow("a") {
			t.Fatal("the burst is not given")
		}
	}
	if k.Allow("a") || !k.Spent("a") {
		t.Fatal("the bucket does not empty")
	}
	if !k.Allow("b") {
		t.Fatal("one key empties another's bucket")
	}
}

func TestMemoryIsBoundedAndForgetsTheOldest(t *testing.T) {
	k := NewKeyed[int](0.001, 1, 2)
	k.Allow(1)
	k.Allow(2)
	k.Allow(3)
	if k.buckets.Len() != 2 {
		t.Fatalf("%d keys are remembered, want 2", k.buckets.Len())
	}
	if k.Spent(1) || !k.Spent(3) {
		t.Fatal("not the oldest was forgotten")
	}
}

func TestWaitPacesAndGivesUpWhenTheContextIsTooShort(t *testing.T) {
	k := NewKeyed[string](20, 1, 8)
	start := time.Now()
	for range 3 {
		if err := k.Wait(context.Background(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d < 80*time.Millisecond {
		t.Fatalf("three went through in %v at 20 per second", d)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if k.Wait(ctx, "a") == nil {
		t.Fatal("a wait longer than its context is granted")
	}
}

func TestSourcesAreIPv4AddressesAndIPv6Networks(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		got := SourceOf(netip.MustParseAddr(c.a)) == SourceOf(netip.MustParseAddr(c.b))
		if got != c.same {
			t.Errorf("%s and %s: same source is %v, want %v", c.a, c.b, got, c.same)
		}
	}
	if SourceOf(netip.Addr{}) != (Source{}) {
		t.Error("an unknown address is not the zero source")
	}
}
