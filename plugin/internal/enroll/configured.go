package enroll

import (
	"encoding/hex"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/name"
)

// remoteRow is what an agent last said of its remote config.
type remoteRow struct {
	Status string    `json:"status"`
	Hash   string    `json:"hash"`
	Name   string    `json:"name,omitempty"`
	Error  string    `json:"error,omitempty"`
	Time   time.Time `json:"time"` // of the last change
}

// configured takes in what an agent says of its remote config, and reports whether that is news. What is out of bounds is
// left out. A name that the edge does not know is the one that the hash had before.
func (a *agentRow) configured(in *apitype.ConfigurationReport, now time.Time) bool {
	if in == nil || !configurationFits(in) {
		return false
	}
	next := remoteRow{Status: in.Status, Hash: in.Hash, Name: in.Name, Error: in.Error, Time: a.Remote.Time}
	if next.Name == "" && next.Hash == a.Remote.Hash {
		next.Name = a.Remote.Name
	}
	if next == a.Remote {
		return false
	}
	next.Time = now.UTC().Truncate(time.Second)
	a.Remote = next
	return true
}

// configurationFits bounds what an agent may write into its row of its remote config.
func configurationFits(in *apitype.ConfigurationReport) bool {
	switch in.Status {
	case "", apitype.ConfigurationApplying, apitype.ConfigurationApplied:
		if in.Error != "" {
			return false
		}
	case apitype.ConfigurationFailed:
	default:
		return false
	}
	raw, err := hex.DecodeString(in.Hash)
	return err == nil && (len(raw) == 32 || len(raw) == 0 && in.Status == "") && hex.EncodeToString(raw) == in.Hash &&
		(in.Name == "" || name.Check("name", in.Name) == nil) && name.Text("error", in.Error, apitype.MaxConfigurationError) == nil
}
