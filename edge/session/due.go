package session

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/ampora/ampora/plugin/identity"
)

const (
	leastPause = 10 * time.Second // between two offers to one agent
	maxTries   = 10               // that make a pause longer
)

// renewalDue is when the edge gives an agent the next leaf: from two thirds of a leaf's life on, spread over the 15 % after
// that, so that agents which enrolled together do not renew together. The serial says where in that span: every edge, and
// the same one after a restart, comes to the same moment.
func renewalDue(serial identity.Serial, issued, notAfter time.Time) time.Time {
	life := notAfter.Sub(issued)
	return issued.Add(life*2/3 + time.Duration(share(serial)*0.15*float64(life)))
}

// share is between 0 and 1, and always the same for a serial.
func share(serial identity.Serial) float64 {
	sum := sha256.Sum256(serial[:])
	return float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
}

// due is renewalDue for this session. What a poll is to carry must be there before it. A guest is given a leaf of ours soon
// after it has come.
func (m *member) due() int64 {
	if m.guest {
		return time.Unix(m.begun, 0).Add(time.Duration(share(m.serial) * float64(m.desk.Timing.Settle))).Unix()
	}
	at := renewalDue(m.serial, time.Unix(m.issued, 0), time.Unix(m.notAfter, 0))
	if m.transport == HTTP {
		at = at.Add(-heartbeat(m.desk.Trust.Current()))
	}
	return at.Unix()
}

// pause is how long an agent is left alone that has not come back with what it was offered: longer each time, but always so
// that some more offers fit into the rest of the leaf's life. Called under the lock.
func (m *member) pause(now time.Time) time.Duration {
	flight := m.desk.Timing.Flight
	life := time.Duration(m.notAfter-m.issued) * time.Second
	left := time.Unix(m.notAfter, 0).Sub(now)
	wait := min(flight<<min(m.tries, maxTries), max(flight, life/40), left/3)
	return max(wait, leastPause)
}
