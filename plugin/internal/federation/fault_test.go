package federation_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// transition is one change of a peer and how to tell that it happened.
type transition struct {
	name     string
	run      func(us, them *side) error
	happened func(us, them *side) bool
	action   string // that it tells, "" for none
	gone     string // with which PeerGone must have been called when it happened
}

func transitions() []transition {
	row := func(s *side) apitype.Peer {
		p, err := s.Read(s.Context(), "them")
		if apitype.CodeOf(err) != apitype.PeerUnknown {
			s.must(err)
		}
		return p
	}
	write := func(in func(them *side) apitype.PeerRequest) func(us, them *side) error {
		return func(us, them *side) error {
			return second(us.Write(us.Context(), operator, "them", in(them)))
		}
	}
	newer := func(us, them *side) bool {
		p := row(us)
		if (p.CABundle == them.card().CABundle) != (p.BundleSequence > them.first) {
			us.Fatalf("half changed: %+v", p)
		}
		return p.BundleSequence > them.first
	}
	return []transition{
		{
			name: "make a peer",
			run: func(us, them *side) error {
				return second(us.Write(us.Context(), operator, "third", whole(them.third.card())))
			},
			happened: func(us, _ *side) bool {
				_, err := us.Read(us.Context(), "third")
				return err == nil
			},
			action: apitype.ActionPeerCreated,
		},
		{
			name:     "change an address",
			run:      write(func(*side) apitype.PeerRequest { return apitype.PeerRequest{Endpoint: ptr("wss://b.example/")} }),
			happened: func(us, _ *side) bool { return row(us).Endpoint == "wss://b.example/" },
			action:   apitype.ActionPeerUpdated,
		},
		{
			name:     "write the new file",
			run:      write(func(them *side) apitype.PeerRequest { return whole(them.card()) }),
			happened: newer, action: apitype.ActionPeerUpdated,
		},
		{
			name:     "follow a bundle",
			run:      func(us, them *side) error { return us.follow(them) },
			happened: newer, action: apitype.ActionPeerUpdated,
		},
		{
			name:     "suspend",
			run:      write(func(*side) apitype.PeerRequest { return apitype.PeerRequest{Suspended: ptr(true)} }),
			happened: func(us, _ *side) bool { return row(us).Suspended },
			action:   apitype.ActionPeerSuspended, gone: "them suspended",
		},
		{
			name:     "delete",
			run:      func(us, _ *side) error { return us.Delete(us.Context(), operator, "them") },
			happened: func(us, _ *side) bool { return row(us).Name == "" },
			action:   apitype.ActionPeerDeleted, gone: "them deleted",
		},
		{
			name:     "take in an acknowledgement",
			run:      func(us, _ *side) error { return us.Acknowledged(us.Context(), "them", 1) },
			happened: func(us, _ *side) bool { return row(us).AcknowledgedSequence == 1 },
		},
		{
			name: "take in that the peer was told",
			run:  func(us, them *side) error { return us.Told(us.Context(), "them", them.first) },
			happened: func(us, _ *side) bool {
				all, err := us.Pending(us.Context())
				us.must(err)
				return len(all) == 0
			},
		},
	}
}

// Every transition, with a fault at its n-th storage operation for every n: applied or not, passing or deadly. Afterwards it
// has happened with its event told once, or not at all; asked again it happens; nothing is left over; and what is pending with
// a peer that is gone has been ended.
func TestEveryTransitionSurvivesAFaultAtEveryStorageOperation(t *testing.T) {
	for _, tr := range transitions() {
		for _, mode := range []int{storetest.Refuse, storetest.Apply} {
			for _, length := range []int{1, 2, storetest.Dead} {
				t.Run(fmt.Sprintf("%s, applied %v, %d failing", tr.name, mode == storetest.Apply, length), func(t *testing.T) {
					n := 1
					for faultAt(t, tr, n, mode, length) {
						n++
					}
					if n < 2 {
						t.Fatal("no operation was seen")
					}
				})
			}
		}
	}
}

// faultAt runs the transition with a fault at operation n, and reports whether it came that far.
func faultAt(t *testing.T, tr transition, n, mode, length int) bool {
	us, them := pair(t)
	them.first = us.row("them").BundleSequence
	them.third = installation(t, "third", us.clock)
	them.rotate()
	if n%2 == 0 { // half the runs meet a process that has nothing in memory
		us = us.restart()
	}
	before := us.told()
	us.storage.Arm(n, mode, length)
	err := tr.run(us, them)
	fired := us.storage.Disarm()
	if !fired && err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	gone := us.gone
	if length == storetest.Dead {
		us = us.restart()
	}
	happened := tr.happened(us, them) // also before anybody has recovered
	us.must(us.log.Retell(t.Context()))
	us.must(us.Sweep(t.Context()))
	if tr.happened(us, them) != happened {
		t.Fatalf("operation %d: recovery changed what happened", n)
	}
	if err == nil && !happened {
		t.Fatalf("operation %d: success was answered and nothing happened", n)
	}
	if happened && tr.gone != "" && !slices.Contains(append(gone, us.gone...), tr.gone) {
		t.Fatalf("operation %d: what was pending goes on", n)
	}
	checkEvents(t, tr, n, before, us.told(), happened)
	if err := tr.run(us, them); err != nil || !tr.happened(us, them) {
		t.Fatalf("operation %d: asked again: %v", n, err)
	}
	us = us.restart()
	us.must(us.Sweep(t.Context()))
	checkEvents(t, tr, n, before, us.told(), true)
	keys, err := us.storage.List(t.Context(), "peer/-/")
	us.must(err)
	for _, key := range keys {
		entry, err := us.storage.Get(t.Context(), "peer/-/"+key)
		var stored struct {
			Row struct {
				Deleted bool `json:"deleted"`
			} `json:"row"`
		}
		if err != nil || json.Unmarshal(entry.Value, &stored) != nil || stored.Row.Deleted {
			t.Fatalf("operation %d: a tombstone is left at %s (%v)", n, key, err)
		}
	}
	return fired
}

func checkEvents(t *testing.T, tr transition, n int, before, after map[string]int, happened bool) {
	t.Helper()
	for _, action := range []string{apitype.ActionPeerCreated, apitype.ActionPeerUpdated, apitype.ActionPeerSuspended, apitype.ActionPeerDeleted} {
		want := before[action]
		if happened && action == tr.action {
			want++
		}
		if after[action] != want {
			t.Fatalf("operation %d: happened %v, %s told %d times instead of %d", n, happened, action, after[action], want)
		}
	}
}

// A suspension whose second half failed is no success, and is finished by the next sweep or the next try.
func TestWhatPeerGoneCannotDoIsTriedAgain(t *testing.T) {
	us, _ := pair(t)
	us.refuse = apitype.Errorf(apitype.OutcomeUnknown, "storage")
	suspend := apitype.PeerRequest{Suspended: ptr(true)}
	us.no(apitype.OutcomeUnknown, second(us.Write(t.Context(), operator, "them", suspend)))
	if !us.row("them").Suspended {
		t.Error("the commit does not stand")
	}
	us.no(apitype.OutcomeUnknown, us.Sweep(t.Context()))
	us.refuse = nil
	us.must(us.Sweep(t.Context()))
	us.must(second(us.Write(t.Context(), operator, "them", suspend)))
	if len(us.gone) != 4 {
		t.Errorf("%v", us.gone)
	}
}

// Of many who begin something with a peer while it is suspended and let in again, nobody does so after the answer that it is
// suspended, and nobody sees it as it was before a change.
func TestAHoldIsOfThePeerAsItIs(t *testing.T) {
	us, _ := pair(t)
	us.PeerGone = nil
	done := make(chan struct{})
	errs := make(chan error, 4)
	for range 4 {
		go func() {
			for {
				select {
				case <-done:
					errs <- nil
					return
				default:
				}
				peer, release, err := us.Hold(t.Context(), "them")
				if err != nil {
					if apitype.CodeOf(err) != apitype.PeerSuspended {
						errs <- err
						return
					}
					continue
				}
				row, err := us.Read(t.Context(), "them") // storage cannot change while it is held
				if err == nil && (row.Suspended || row.Endpoint != peer.Endpoint) {
					err = fmt.Errorf("held %+v while the row says %+v", peer, row)
				}
				release()
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for i := range 200 {
		us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{Suspended: ptr(i%2 == 0), Endpoint: ptr(fmt.Sprintf("wss://e%d.example/", i))})))
		if us.peer("them").Suspended != (i%2 == 0) {
			t.Fatal("an answer is older than its change")
		}
	}
	close(done)
	for range 4 {
		select {
		case err := <-errs:
			us.must(err)
		case <-time.After(15 * time.Second):
			t.Fatal("they do not end")
		}
	}
}

// A row of a newer build is told of by name, and a damaged one stops what rests on peers instead of being passed over.
func TestARowThatCannotBeReadIsNoPeerLess(t *testing.T) {
	us, _ := pair(t)
	us.must(us.storage.Put(t.Context(), &logical.StorageEntry{Key: "peer/-/late", Value: []byte(`{"v":99,"row":{}}`)}))
	us = us.restart()
	us.no(apitype.SchemaTooNew, second(us.ByID(t.Context(), "them")))
	us.no(apitype.SchemaTooNew, second(us.Sync(t.Context())))
	us.must(us.storage.Put(t.Context(), &logical.StorageEntry{Key: "peer/-/late", Value: []byte(`{"v":1,"row":{"name":"late","ca_bundle":"x"}}`)}))
	if _, err := us.ByID(t.Context(), "them"); err == nil {
		t.Error("a damaged row is passed over")
	}
	us.must(us.Delete(t.Context(), operator, "late"))
	us.must(second(us.ByID(t.Context(), "them")))
}
