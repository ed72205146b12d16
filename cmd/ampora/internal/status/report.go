package status

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// report is the answer. A part that could not be seen is null, and stands in Unavailable with the reason.
type report struct {
	Time      string                 `json:"time"` // RFC 3339, like all times here
	Mount     string                 `json:"mount"`
	Tenant    string                 `json:"tenant"`
	Issuers   []*issuer              `json:"issuers"`
	Agents    *apitype.AgentsSummary `json:"agents"`
	Tokens    *tokens                `json:"tokens"`
	Edges     []*edge                `json:"edges"`
	Attention []string               `json:"attention"`
	// Unavailable tells of issuers, crls, agents, tokens and edges why they are not, or not all, in here.
	Unavailable map[string]string `json:"unavailable"`

	broken map[string]bool // those of Unavailable where the reason is not that the Vault token does not allow it
}

// issuer is one that signs or has signed, or is to.
type issuer struct {
	IssuerID   string `json:"issuer_id"` // "" when it was read from the trust bundle
	CommonName string `json:"common_name"`
	State      string `json:"state"`
	Expires    string `json:"expires_at"` // "" for a draft that is not signed
	DaysLeft   int    `json:"days_left"`  // whole days, negative once it has expired
	CRL        *crl   `json:"crl"`

	expires time.Time
}

// counts reports whether certificates of the issuer are good.
func (i *issuer) counts() bool { return i.State == stateActive || i.State == stateTrusted }

// States of issuers; see apitype.CAIssuer.
const (
	stateActive  = "active"
	stateTrusted = "trusted"
)

// crl is an issuer's newest list of revoked certificates.
type crl struct {
	Number     string `json:"number"`
	Entries    int    `json:"entries"`
	ThisUpdate string `json:"this_update"`
	NextUpdate string `json:"next_update"`

	nextUpdate time.Time
}

// tokens are those that may still be redeemed.
type tokens struct {
	Outstanding int  `json:"outstanding"`
	More        bool `json:"more"` // there are more than that
}

// edge is one edge that was seen lately.
type edge struct {
	apitype.EdgeInfo
	Age int64 `json:"age_seconds"` // since it was seen

	key string
}

// What needs attention.
const (
	issuerSoon = 30 * 24 * time.Hour // before an issuer expires
	edgeSilent = 5 * time.Minute     // since an edge was seen; it reports every minute
)

// weigh works out how long things last, and what of it needs attention.
func (r *report) weigh(now time.Time) {
	r.Attention = []string{}
	warn := func(format string, args ...any) { r.Attention = append(r.Attention, fmt.Sprintf(format, args...)) }
	active := 0
	for _, i := range r.Issuers {
		left := i.expires.Sub(now)
		if i.expires.IsZero() {
			continue
		}
		i.DaysLeft = int(left / (24 * time.Hour))
		if left < 0 {
			i.DaysLeft--
		}
		if i.State == stateActive {
			active++
		}
		switch {
		case !i.counts():
		case left <= 0:
			warn("the %s issuer %s has expired, on %s", i.State, i.CommonName, i.Expires)
		case left < issuerSoon:
			warn("the %s issuer %s expires in %s, on %s", i.State, i.CommonName, counted(i.DaysLeft, "day", "days"), i.Expires)
		}
		if i.CRL != nil && i.counts() && !i.CRL.nextUpdate.After(now) {
			warn("the list of revoked certificates of the issuer %s is out of date since %s", i.CommonName, i.CRL.NextUpdate)
		}
	}
	if r.Issuers != nil && active == 0 {
		warn("no issuer is active: nobody can enrol or renew")
	}
	for _, e := range r.Edges {
		seen, err := time.Parse(time.RFC3339, e.SeenAt)
		if err != nil {
			warn("the edge %s tells no time", e.key)
			continue
		}
		silent := max(now.Sub(seen), 0) // the clock here may run late
		if e.Age = int64(silent / time.Second); silent >= edgeSilent {
			warn("the edge %s was last seen %s ago", e.key, span(silent))
		}
	}
	for _, part := range slices.Sorted(maps.Keys(r.Unavailable)) {
		if r.broken[part] {
			warn("%s could not be read: %s", part, r.Unavailable[part])
		}
	}
}

// unseen are the parts that the Vault token does not allow to see.
func (r *report) unseen() []string {
	var all []string
	for _, part := range slices.Sorted(maps.Keys(r.Unavailable)) {
		if !r.broken[part] {
			all = append(all, part+": "+r.Unavailable[part])
		}
	}
	return all
}

// span is a duration as people say it.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return counted(int(d/time.Second), "second", "seconds")
	case d < 2*time.Hour:
		return counted(int(d/time.Minute), "minute", "minutes")
	case d < 48*time.Hour:
		return counted(int(d/time.Hour), "hour", "hours")
	}
	return counted(int(d/(24*time.Hour)), "day", "days")
}
