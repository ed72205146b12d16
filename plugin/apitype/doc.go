// Package apitype holds the shapes that cross the API of the secrets engine: requests, responses, paths and error codes.
//
// The plugin encodes them, plugin/client decodes them, and the edge, the command line and the tests speak nothing else.
// It imports the standard library only, so that anybody can use it without taking on Vault's SDK.
package apitype

// Version is the version of this build, always a v-semver, because Vault registers no other.
// The Makefile stamps it: the tag when there is one, else v0.0.0+g<commit>.
var Version = "v0.0.0+gunknown"
