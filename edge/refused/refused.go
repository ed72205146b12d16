// Package refused counts what an edge refuses by itself, so that the audit trail hears of it: per source and code, in bounded
// memory. What Vault refuses, Vault counts.
package refused

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/ampora/ampora/edge/limits"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
)

// maxSums leaves room in a report for one more sum of each code.
const maxSums = apitype.MaxRefusals - 80

// other is the source under which everything is summed that there is no room for.
const other = "other"

// Table holds the sums since the last Take. It is safe for concurrent use, and a nil one counts nothing.
type Table struct {
	mu   sync.Mutex
	sums map[key]int64
}

type key struct {
	source string
	code   apitype.Code
}

// New makes a Table.
func New() *Table { return &Table{sums: map[key]int64{}} }

// Add counts a refusal, unless Vault has counted it or it is nobody's fault.
func (t *Table) Add(source netip.Addr, err error) {
	if t == nil || FromVault(err) {
		return
	}
	code := apitype.CodeOf(err)
	if !code.Known() || code.EdgeStatus() >= 500 {
		return
	}
	t.add(key{text(source), code}, 1)
}

func (t *Table) add(k key, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.sums[k]; !known && len(t.sums) >= maxSums {
		k.source = other
	}
	t.sums[k] += n
}

// Take empties the table.
func (t *Table) Take() []apitype.Refusal {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []apitype.Refusal
	for k, n := range t.sums {
		all = append(all, apitype.Refusal{SourceIP: k.source, Code: k.code, Count: min(n, apitype.MaxRefusalCount)})
	}
	clear(t.sums)
	return all
}

// GiveBack counts what was taken and could not be told.
func (t *Table) GiveBack(all []apitype.Refusal) {
	for _, r := range all {
		t.add(key{r.SourceIP, r.Code}, r.Count)
	}
}

// FromVault reports whether the engine has refused, and not the edge.
func FromVault(err error) bool {
	_, asked := errors.AsType[*client.Refusal](err)
	return asked
}

// text is a source as the engine takes it: an address, an IPv6 /64, or nothing when it is not known.
func text(addr netip.Addr) string {
	p := netip.Prefix(limits.SourceOf(addr))
	if !p.IsValid() {
		return ""
	}
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
