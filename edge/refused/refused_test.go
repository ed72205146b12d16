package refused_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/ampora/ampora/edge/refused"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
)

func refusal(code apitype.Code) error {
	return fmt.Errorf("refused: %w", apitype.Errorf(code, "detail"))
}

func sorted(all []apitype.Refusal) []string {
	var out []string
	for _, r := range all {
		out = append(out, fmt.Sprintf("%s %s %d", r.SourceIP, r.Code, r.Count))
	}
	slices.Sort(out)
	return out
}

func TestRefusalsAreSummedPerSourceAndCode(t *testing.T) {
	table := refused.New()
	for _, addr := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2"} {
		table.Add(netip.MustParseAddr(addr), refusal(apitype.TokenChecksum))
	}
	table.Add(netip.MustParseAddr("192.0.2.1"), refusal(apitype.RateLimited))
	table.Add(netip.Addr{}, refusal(apitype.TokenMissing))
	// Not the edge's own, and nobody's fault.
	table.Add(netip.MustParseAddr("192.0.2.1"), &client.Refusal{Err: apitype.Errorf(apitype.TokenUnknown, "")})
	table.Add(netip.MustParseAddr("192.0.2.1"), refusal(apitype.VaultUnavailable))
	table.Add(netip.MustParseAddr("192.0.2.1"), errors.New("a fault"))
	want := []string{" token_missing 1", "192.0.2.1 rate_limited 1", "192.0.2.1 token_checksum 2", "2001:db8::/64 token_checksum 2"}
	all := table.Take()
	if got := sorted(all); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := table.Take(); len(got) != 0 {
		t.Errorf("taken twice: %v", got)
	}
	table.GiveBack(all)
	table.Add(netip.MustParseAddr("192.0.2.1"), refusal(apitype.RateLimited))
	want[1] = "192.0.2.1 rate_limited 2"
	if got := sorted(table.Take()); !slices.Equal(got, want) {
		t.Errorf("given back: %q", got)
	}
}

func TestAFloodFitsIntoOneReport(t *testing.T) {
	table, n := refused.New(), 0
	for i := range 3000 {
		for _, code := range apitype.Codes() {
			if code.EdgeStatus() < 500 {
				n++
			}
			table.Add(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)}), refusal(code))
		}
	}
	all, sum := table.Take(), 0
	for _, r := range all {
		sum += int(r.Count)
	}
	if len(all) > apitype.MaxRefusals || sum != n {
		t.Errorf("%d entries of %d refusals instead of %d", len(all), sum, n)
	}
}
