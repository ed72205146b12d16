package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
)

// reloadInterval is how often a collector looks at the files when it connects. A renewal ends the connections of the certificate
// before, so whoever is back must not come with that one.
const reloadInterval = "1s"

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

// settings are those of an identity that is about to take the place of another one. A file that would say the same as before
// stays as it is: its reader may have added to it, or have removed it.
func (k *keeper) settings(id idfiles.Identity) map[string][]byte {
	all := settings(k.dir, id)
	old, err := k.dir.Current()
	if err != nil {
		return all
	}
	for name, before := range settings(k.dir, *old) {
		if !bytes.Equal(before, all[name]) {
			continue
		}
		switch data, err := os.ReadFile(k.dir.File(name)); {
		case err == nil:
			all[name] = data
		case errors.Is(err, fs.ErrNotExist):
			delete(all, name)
		}
	}
	return all
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
	fmt.Fprintf(&b, "%s  reload_interval: %s  # a renewed certificate is used from the next connection on\n", indent, reloadInterval)
	return b.Bytes()
}
