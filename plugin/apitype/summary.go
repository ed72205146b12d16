package apitype

// AgentsSummary counts a part of the agents: those whose ids begin with the hexadecimal numbers from the one asked for up to
// NextAfter. Whoever reads on from there has them all, see Add. Every agent is counted in exactly one of Active, Expired and Revoked.
type AgentsSummary struct {
	Active  int `json:"active"`  // with a certificate that is good
	Expired int `json:"expired"` // not revoked, and no certificate that is good
	Revoked int `json:"revoked"`
	Moved   int `json:"moved"` // to a peer, or on the way there
	// Awaited are to come from a peer, and were never here.
	Awaited int `json:"awaited"`
	// RenewalsDue of the active have a certificate that is past two thirds of its life, and no next one yet.
	RenewalsDue int `json:"renewals_due"`
	// Unconfirmed of the active have been given a next certificate that they have not come back with for good.
	Unconfirmed int `json:"unconfirmed"`
	// Expiring counts the active by the month in which their certificate expires, such as "2026-11", in UTC.
	Expiring map[string]int `json:"expiring"`
	// NextAfter is the value of 'after' for the next part, empty on the last.
	NextAfter string `json:"next_after,omitempty"`
}

// Add takes the part that follows into the sum.
func (s *AgentsSummary) Add(part AgentsSummary) {
	s.Active += part.Active
	s.Expired += part.Expired
	s.Revoked += part.Revoked
	s.Moved += part.Moved
	s.Awaited += part.Awaited
	s.RenewalsDue += part.RenewalsDue
	s.Unconfirmed += part.Unconfirmed
	if s.Expiring == nil {
		s.Expiring = map[string]int{}
	}
	for month, n := range part.Expiring {
		s.Expiring[month] += n
	}
	s.NextAfter = part.NextAfter
}
