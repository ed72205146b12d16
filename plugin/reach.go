package ampora

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
)

// maxPeerError bounds, in bytes, why an edge has not reached a peer.
const maxPeerError = 512

// checkPeerReports refuses what cannot be a report of peers.
func checkPeerReports(all []apitype.PeerReport) error {
	if len(all) > apitype.MaxPeerReports {
		return apitype.Errorf(apitype.FieldInvalid, "peers has more than %d entries", apitype.MaxPeerReports)
	}
	for _, r := range all {
		if name.Check("peers", r.Name) != nil {
			return apitype.Errorf(apitype.FieldInvalid, "peers has a name that is none")
		}
		if err := name.Text("peers", r.Error, maxPeerError); err != nil {
			return err
		}
		if r.LatencyMS < 0 || !isTime(r.CheckedAt) || !isTime(r.CRLTime) {
			return apitype.Errorf(apitype.FieldInvalid, "peers has a time that is none")
		}
	}
	return nil
}

// isTime reports whether the Unix seconds can be written as RFC 3339, whose years have four digits.
func isTime(seconds int64) bool { return seconds >= 0 && time.Unix(seconds, 0).UTC().Year() <= 9999 }

// reach is how each edge that was heard of lately has found each peer, by the peers' names.
func (e *edges) reach(ctx context.Context) (map[string][]apitype.PeerReach, error) {
	keys, err := e.keys(ctx, "")
	if err != nil {
		return nil, err
	}
	slices.Sort(keys)
	found := map[string][]apitype.PeerReach{}
	for _, key := range keys {
		row, err := e.latest(ctx, key)
		if err != nil {
			return nil, err
		}
		if row == nil || e.forgotten(row) {
			continue
		}
		for _, r := range row.Peers {
			found[r.Name] = append(found[r.Name], apitype.PeerReach{
				Edge: shownEdge(key), Up: r.Up, Error: r.Error, LatencyMS: r.LatencyMS, Time: unixText(r.CheckedAt), CRLTime: unixText(r.CRLTime),
			})
		}
	}
	return found, nil
}

// shownEdge is what an edge is called where those of all tenants are shown.
func shownEdge(key string) string {
	return strings.TrimPrefix(strings.TrimPrefix(key, store.EdgePrefix), store.NoTenant+"/")
}

// unixText is a time as it is shown, "" for none.
func unixText(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}
