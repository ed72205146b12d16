package ampora_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// What provokes the codes of peers and handovers. Each works on two peers of its own.
func init() {
	pair := func(m *mount) (eu, west *mount) {
		m.Helper()
		return twoPeers(m.T)
	}
	// ended is a handover that ended at its source as end says, for asking to end it again in another way.
	ended := func(m *mount, end func(eu, west *mount, agent apitype.Identity, token apitype.HandoverToken)) (*mount, string) {
		m.Helper()
		eu, west := pair(m)
		id := eu.movable(nil)
		token := eu.handOver(id.AgentID, "west", nil)
		end(eu, west, id, token)
		return eu, "handovers/" + token.HandoverID
	}
	for code, provoke := range map[apitype.Code]func(*mount){
		apitype.PeerUnknown: func(m *mount) {
			m.no(apitype.PeerUnknown, write, "agents/"+m.movable(nil).AgentID+"/handover", data{"peer": "nobody"})
		},
		apitype.PeerSuspended: func(m *mount) {
			eu, _ := pair(m)
			id := eu.movable(nil)
			eu.ok(write, "peers/west", data{"suspended": true})
			eu.no(apitype.PeerSuspended, write, "agents/"+id.AgentID+"/handover", data{"peer": "west"})
		},
		apitype.BundleInvalid: func(m *mount) {
			eu, _ := pair(m)
			eu.no(apitype.BundleInvalid, write, "peers/west/bundle", data{"bundle_jws": "x"})
		},
		apitype.BundleOutdated: func(m *mount) {
			eu, west := pair(m)
			old := west.ok(read, "federation/bundle", nil).Data["bundle_jws"]
			west.clock.advance(time.Second)
			west.ok(write, "ca/issuers/"+call[apitype.CAIssuer](west, write, "ca/root", nil).IssuerID, data{"state": "active"})
			eu.ok(write, "peers/west/bundle", data{"bundle_jws": west.ok(read, "federation/bundle", nil).Data["bundle_jws"]})
			eu.no(apitype.BundleOutdated, write, "peers/west/bundle", data{"bundle_jws": old})
		},
		apitype.HandoverUnknown: func(m *mount) {
			m.no(apitype.HandoverUnknown, read, "handovers/00000000-0000-8000-8000-000000000000", nil)
		},
		apitype.HandoverMalformed: func(m *mount) {
			m.no(apitype.HandoverMalformed, write, "handover/redeem", data{"token": m.issue(nil).Token})
		},
		apitype.HandoverSignatureInvalid: func(m *mount) {
			eu, west := pair(m)
			token := eu.handOver(eu.movable(nil).AgentID, "west", nil).HandoverToken
			dot := strings.LastIndexByte(token, '.')
			forged := token[:dot+1] + strings.Map(func(r rune) rune {
				if r == 'A' {
					return 'B'
				}
				return 'A'
			}, token[dot+1:len(token)-1]) + "A"
			west.no(apitype.HandoverSignatureInvalid, write, "handover/redeem", data{"token": forged})
		},
		apitype.HandoverWrongAudience: func(m *mount) {
			eu, _ := pair(m)
			eu.no(apitype.HandoverWrongAudience, write, "handover/redeem", data{"token": eu.handOver(eu.movable(nil).AgentID, "west", nil).HandoverToken})
		},
		apitype.HandoverReplayed: func(m *mount) {
			eu, west := pair(m)
			token := eu.handOver(eu.movable(nil).AgentID, "west", nil)
			west.take(token.HandoverToken, nil)
			west.ok(remove, "handovers/"+token.HandoverID, nil)
			west.no(apitype.HandoverReplayed, write, "handover/redeem", data{"token": token.HandoverToken})
		},
		apitype.HandoverPending: func(m *mount) {
			eu, _ := pair(m)
			id := eu.movable(nil)
			eu.handOver(id.AgentID, "west", nil)
			eu.no(apitype.HandoverPending, write, "agents/"+id.AgentID+"/handover", data{"peer": "west"})
		},
		apitype.HandoverFinished: func(m *mount) {
			eu, west := pair(m)
			id := eu.movable(nil)
			token := eu.handOver(id.AgentID, "west", nil)
			taken := west.take(token.HandoverToken, nil)
			carry(west, eu)
			west.comes(taken.AgentID)
			west.no(apitype.HandoverFinished, remove, "handovers/"+token.HandoverID, nil)
		},
		apitype.AgentMoved: func(m *mount) {
			eu, west := pair(m)
			id := eu.movable(nil)
			moves(eu, west, id.AgentID, "west")
			eu.no(apitype.AgentMoved, write, "agents/"+id.AgentID+"/handover", data{"peer": "west"})
		},
		apitype.HandoverUnsupported: func(m *mount) {
			eu, _ := pair(m)
			id := eu.redeem(data{"token": eu.issue(nil).Token, "generate_key": true, "capabilities": apitype.CapabilityAcceptsOpAMP})
			eu.no(apitype.HandoverUnsupported, write, "agents/"+id.AgentID+"/handover", data{"peer": "west"})
		},
		apitype.RenewalPending: func(m *mount) {
			eu, _ := pair(m)
			id := eu.movable(nil)
			eu.ok(write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})
			eu.no(apitype.RenewalPending, write, "agents/"+id.AgentID+"/handover", data{"peer": "west"})
		},
		apitype.HandoverCancelled: func(m *mount) {
			eu, path := ended(m, func(eu, _ *mount, _ apitype.Identity, token apitype.HandoverToken) {
				eu.ok(remove, "handovers/"+token.HandoverID, nil)
			})
			eu.no(apitype.HandoverCancelled, write, path, data{"force": true})
		},
		apitype.HandoverExpired: func(m *mount) {
			eu, path := ended(m, func(eu, _ *mount, _ apitype.Identity, _ apitype.HandoverToken) { eu.clock.advance(2 * time.Hour) })
			eu.no(apitype.HandoverExpired, remove, path, nil)
		},
		apitype.HandoverLapsed: func(m *mount) {
			eu, path := ended(m, func(eu, west *mount, _ apitype.Identity, token apitype.HandoverToken) {
				west.take(token.HandoverToken, nil)
				west.ok(remove, "handovers/"+token.HandoverID, nil)
				carry(west, eu)
			})
			eu.no(apitype.HandoverLapsed, remove, path, nil)
		},
		apitype.HandoverForced: func(m *mount) {
			eu, path := ended(m, func(eu, west *mount, _ apitype.Identity, token apitype.HandoverToken) {
				west.take(token.HandoverToken, nil)
				carry(west, eu)
				eu.ok(write, "handovers/"+token.HandoverID, data{"force": true})
			})
			eu.no(apitype.HandoverForced, remove, path, nil)
		},
		apitype.FingerprintMismatch: func(m *mount) {
			eu, path := ended(m, func(eu, _ *mount, id apitype.Identity, _ apitype.HandoverToken) {
				eu.ok(write, "config", data{"renew_proof": "edge"})
				eu.ok(write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint, "csr": newCSR(eu)})
			})
			eu.no(apitype.FingerprintMismatch, remove, path, nil)
		},
	} {
		provocations[code] = provoke
	}
}

func TestATokenWithItsSignatureCutOffIsMalformed(t *testing.T) {
	eu, west := twoPeers(t)
	token := eu.handOver(eu.movable(nil).AgentID, "west", nil).HandoverToken
	for _, cut := range []string{token[:len(token)-1], token[:len(token)/2], "", "a.b.c", strings.Repeat("x", 900_000)} {
		west.no(apitype.HandoverMalformed, write, "handover/redeem", data{"token": cut})
		west.no(apitype.HandoverMalformed, write, "handover/inspect", data{"token": cut})
	}
}
