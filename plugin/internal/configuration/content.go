package configuration

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/named"
)

const (
	// defaultContentType is that of a collector's configuration.
	defaultContentType = "text/yaml"
	maxContentType     = 128 // bytes
)

// validate checks the fields that are set.
func validate(in apitype.ConfigurationRequest) error {
	if in.Description != nil {
		if err := name.Text("description", *in.Description, named.MaxDescription); err != nil {
			return err
		}
	}
	if in.ContentType != nil {
		if err := name.Text("content_type", *in.ContentType, maxContentType); err != nil {
			return err
		}
		if kind, _, err := mime.ParseMediaType(*in.ContentType); err != nil || !strings.Contains(kind, "/") {
			return apitype.Errorf(apitype.FieldInvalid, "content_type must be a media type like %s", defaultContentType)
		}
	}
	switch {
	case in.Body == nil:
		return nil
	case *in.Body == "":
		return apitype.Errorf(apitype.FieldInvalid, "body is empty")
	case len(*in.Body) > apitype.MaxConfigurationBody:
		return apitype.Errorf(apitype.BodyTooLarge, "body is longer than %d bytes", apitype.MaxConfigurationBody)
	case !utf8.ValidString(*in.Body), strings.ContainsRune(*in.Body, 0):
		return apitype.Errorf(apitype.FieldInvalid, "body is no UTF-8 text")
	case name.HoldsSecret(*in.Body): // many read it
		return apitype.Errorf(apitype.FieldInvalid, "body holds a secret")
	}
	return nil
}

// hash is SHA-256 over content type and body, each behind its length in 8 bytes, big-endian; in lower-case hex.
func hash(contentType string, body []byte) string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(contentType), body} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}
