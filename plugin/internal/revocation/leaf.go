// Package revocation knows every leaf that counts no longer although it has not expired, and serves it as CRLs and OCSP
// answers (DESIGN.md section 6).
package revocation

import (
	"time"

	"github.com/ampora/ampora/plugin/identity"
)

// Leaf is one that counts no longer: because its agent was revoked, or because a newer leaf has taken its place.
type Leaf struct {
	Serial   identity.Serial
	IssuerID string
	Time     time.Time // since when
	Reason   string    // see ca.Reasons
	NotAfter time.Time
}
