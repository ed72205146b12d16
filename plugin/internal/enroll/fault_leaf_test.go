package enroll_test

import (
	"github.com/ampora/ampora/plugin/apitype"
)

// leafTransitions are those of an agent's certificates.
func leafTransitions() []transition {
	state := func(w *world, f *fixture) apitype.Agent {
		a, _ := w.Agent(w.t.Context(), "", f.identity.AgentID)
		return a
	}
	renew := func(w *world, f *fixture) (*apitype.Identity, error) {
		return w.Renew(w.t.Context(), operator, "", f.identity.AgentID, apitype.RenewRequest{Fingerprint: f.identity.Fingerprint})
	}
	withNext := func(w *world, f *fixture) {
		next, err := renew(w, f)
		w.must(err)
		f.next = next
	}
	seen := func(w *world, leaf *apitype.Identity, applied string) error {
		_, err := w.Seen(w.t.Context(), operator, "", "edge", apitype.SessionReport{AgentID: leaf.AgentID, SerialNumber: leaf.SerialNumber, Applied: applied})
		return err
	}
	revoked := func(w *world, f *fixture) bool { return state(w, f).State == apitype.AgentStateRevoked }
	return []transition{
		{
			name: "renew", redeemed: true,
			run: func(w *world, f *fixture) error { _, err := renew(w, f); return err },
			happened: func(w *world, f *fixture) bool {
				a := state(w, f)
				if a.SerialNumber != f.identity.SerialNumber {
					w.t.Fatal("the current leaf ended before the next was confirmed")
				}
				return a.NextSerialNumber != ""
			},
			events: map[string]int{apitype.ActionCertificateRenewed: 1},
		},
		{
			name: "replace a next leaf", redeemed: true,
			before: func(w *world, f *fixture) {
				edge := "edge"
				_, err := w.groups.Write(w.t.Context(), operator, "", "web", apitype.GroupRequest{RenewProof: &edge})
				w.must(err)
				withNext(w, f)
			},
			run: func(w *world, f *fixture) error {
				_, err := w.Renew(w.t.Context(), operator, "", f.identity.AgentID, apitype.RenewRequest{Fingerprint: f.identity.Fingerprint, CSR: f.otherCSR(w.t)})
				return err
			},
			happened: func(w *world, f *fixture) bool { return state(w, f).NextSerialNumber != f.next.SerialNumber },
			events:   map[string]int{apitype.ActionCertificateRenewed: 1},
		},
		{
			name: "confirm a next leaf", redeemed: true, before: withNext,
			run: func(w *world, f *fixture) error { return seen(w, f.next, f.next.Fingerprint) },
			happened: func(w *world, f *fixture) bool {
				a := state(w, f)
				if (a.SerialNumber == f.next.SerialNumber) != (a.NextSerialNumber == "") {
					w.t.Fatal("half confirmed")
				}
				return a.NextSerialNumber == ""
			},
			events: map[string]int{apitype.ActionCertificateRevoked: 1},
		},
		{
			name: "revoke an agent with a next leaf", redeemed: true, before: withNext,
			run: func(w *world, f *fixture) error {
				_, err := w.RevokeAgent(w.t.Context(), operator, "", f.identity.AgentID, "keyCompromise")
				return err
			},
			happened: revoked,
			events:   map[string]int{apitype.ActionCertificateRevoked: 1},
		},
		{
			name: "revoke many", redeemed: true, before: withNext,
			run: func(w *world, f *fixture) error {
				_, err := w.RevokeAgents(w.t.Context(), operator, "", apitype.RevokeAgentsRequest{Group: "web", Reason: "keyCompromise"})
				return err
			},
			happened: revoked,
			events:   map[string]int{apitype.ActionCertificateRevoked: 1},
		},
	}
}
