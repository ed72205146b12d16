package revocation

import (
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/google/uuid"
)

// memory is every leaf that counts no longer, by agent, and the lists that were made of them. It is whole: a load that ends
// early makes none. 100,000 agents with one such leaf each take about 12 MB.
type memory struct {
	leaves  map[uuid.UUID][]dead
	issuers words
	reasons words
	lists   map[string]*list // by issuer, of those that somebody has asked for
}

// dead is a Leaf in few bytes.
type dead struct {
	serial   identity.Serial
	issuer   uint16 // in memory.issuers
	reason   uint16 // in memory.reasons
	since    int64  // Unix seconds
	notAfter int64  // Unix seconds
}

// words gives each of a few texts a number.
type words []string

func (w *words) number(text string) uint16 {
	n := slices.Index(*w, text)
	if n < 0 {
		n, *w = len(*w), append(*w, text)
	}
	return uint16(n)
}

func newMemory() *memory {
	return &memory{leaves: map[uuid.UUID][]dead{}, lists: map[string]*list{}}
}

// set replaces what is known of an agent, and answers the issuers whose lists are no longer right.
func (m *memory) set(agent uuid.UUID, leaves []Leaf) (touched []string) {
	next := make([]dead, 0, len(leaves))
	for _, l := range leaves {
		next = append(next, dead{
			serial: l.Serial, issuer: m.issuers.number(l.IssuerID), reason: m.reasons.number(l.Reason),
			since: l.Time.Unix(), notAfter: l.NotAfter.Unix(),
		})
	}
	last := m.leaves[agent]
	touch := func(some, others []dead) {
		for _, d := range some {
			if id := m.issuers[d.issuer]; !slices.Contains(others, d) && !slices.Contains(touched, id) {
				touched = append(touched, id)
			}
		}
	}
	touch(last, next)
	touch(next, last)
	if len(next) == 0 {
		delete(m.leaves, agent)
	} else {
		m.leaves[agent] = next
	}
	return touched
}

// of is what an issuer's list names. What has expired is dropped, whoever signed it.
func (m *memory) of(issuerID string, now time.Time) []ca.Revoked {
	issuer := m.issuers.number(issuerID)
	at := now.Unix()
	all := make([]ca.Revoked, 0, len(m.leaves))
	expired := func(d dead) bool { return d.notAfter <= at }
	for agent, leaves := range m.leaves {
		if slices.ContainsFunc(leaves, expired) {
			if leaves = slices.DeleteFunc(leaves, expired); len(leaves) == 0 {
				delete(m.leaves, agent)
				continue
			}
			m.leaves[agent] = leaves
		}
		for _, d := range leaves {
			if d.issuer == issuer {
				all = append(all, ca.Revoked{Serial: d.serial, Time: time.Unix(d.since, 0), Reason: m.reasons[d.reason]})
			}
		}
	}
	return all
}
