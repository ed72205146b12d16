package enroll

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
)

// settings are the identity as a collector's configuration takes it, with the files' places in dir.
func settings(dir *idfiles.Dir, id idfiles.Identity) map[string][]byte {
	transport := "ws"
	if strings.HasPrefix(id.Endpoint, "https:") {
		transport = "http"
	}
	supervisor := yaml(dir, id, "# Put this into the OpAMP supervisor's configuration. It carries no token: the certificate is the identity.\n", "server")
	extension := yaml(dir, id, "# Put this into a collector's configuration, and 'opamp' into service.extensions.\n", "extensions", "opamp", "server", transport)
	extension = fmt.Appendf(extension, "    instance_uid: %q\n", id.InstanceUID)
	return map[string][]byte{idfiles.Supervisor: supervisor, idfiles.Extension: extension}
}

// yaml writes endpoint and TLS files below the given keys.
func yaml(dir *idfiles.Dir, id idfiles.Identity, comment string, keys ...string) []byte {
	var b bytes.Buffer
	b.WriteString(comment)
	for depth, key := range keys {
		fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", depth), key)
	}
	indent := strings.Repeat("  ", len(keys))
	fmt.Fprintf(&b, "%sendpoint: %q\n%stls:\n", indent, id.Endpoint, indent)
	files := []struct{ key, name string }{{"cert_file", idfiles.Cert}, {"key_file", idfiles.Key}}
	if len(id.CA) > 0 {
		files = append(files, struct{ key, name string }{"ca_file", idfiles.CA})
	}
	for _, f := range files {
		fmt.Fprintf(&b, "%s  %s: %q\n", indent, f.key, dir.File(f.name))
	}
	return b.Bytes()
}
