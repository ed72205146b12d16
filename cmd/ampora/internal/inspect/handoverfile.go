package inspect

import (
	"bytes"
	"errors"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// isHandoverFile tells lines of documents from one document that was broken into lines: there only the first one begins like one.
func isHandoverFile(data []byte) bool {
	first, rest, several := bytes.Cut(data, []byte("\n"))
	if _, err := handover.ReadManifest(string(first)); err == nil {
		return true
	}
	document := []byte("eyJ")
	return several && bytes.HasPrefix(first, document) && bytes.HasPrefix(rest, document)
}

// fileItem looks at a handover file: with the bundle of its source by the rules of the target, else by its shape.
func fileItem(data []byte, l look) Item {
	item := Item{Kind: KindHandoverFile}
	file, err := handover.ParseFile(data)
	if err != nil {
		item.Problem = problemOf(err)
		return item
	}
	m, f := file.Manifest, &item.Fields
	f.add("manifest_id", m.ID)
	f.add("from", m.Issuer)
	f.add("to", m.Audience)
	f.add("group", m.Group)
	f.add("agents", len(file.Tokens))
	f.add("issued_at", rfc3339(time.Unix(m.IssuedAt, 0)))
	f.add("expires_at", rfc3339(time.Unix(m.Expires, 0)))
	if left := time.Unix(m.Expires, 0).Sub(l.now); left > 0 {
		f.add("valid_for", lasting(left))
	} else {
		item.Problem = string(apitype.HandoverExpired) + ": its time is over"
		return item
	}
	if l.peer == nil {
		item.Intact = true
		f.add("signature", notChecked)
		return item
	}
	signature(&item, m.Issuer, l, func(p *handover.PeerKeys) error { return signedBy(file, *p, l.now) })
	item.Intact = item.Problem == ""
	return item
}

// signedBy checks the manifest and every token with the keys of the source.
func signedBy(file *handover.File, source handover.PeerKeys, now time.Time) error {
	if err := handover.Verify(file.Signed, handover.TypeManifest, source.Pinned, &handover.Manifest{}); err != nil {
		return err
	}
	for n, token := range file.Tokens {
		_, err := handover.Open(token.Text, file.Manifest.Audience, onePeer{source}, now)
		if e := (*apitype.Error)(nil); errors.As(err, &e) {
			return apitype.Errorf(e.Code, "line %d: %s", n+2, e.Detail)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
