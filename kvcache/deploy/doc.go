// Package deploy keeps the deploys of sites: which there are, which is live, and what this node serves of them.
//
// The records are keys of one KV bucket: a deploy with its manifest, the live deploy of a site, and previews. The files
// lie in blobs. Each node follows the bucket, brings the files of every deploy before anybody asks for them, and keeps
// its index in memory, so that a change of the live deploy is one record that every node hears of and one pointer that
// each of them changes.
//
// Guarantees:
//
//   - A site's State names only deploys that this node has: index in memory, and on its disk the files that Config.Fill
//     says. Of deploys that are only kept the index may have the hashed files alone.
//   - Live is changed by compare-and-set only. Of two that change it at once one wins, and the other gets a
//     LostRaceError, unless both want the same deploy.
//   - What is live has its record, whatever is deleted at the same time.
//   - A node never goes back to a deploy that was live before, unless somebody says so with a rollback.
//   - A node without a connection, or restarted without one, serves what was live when it last heard of the bucket.
//   - What a deploy in the bucket names is never collected.
package deploy
