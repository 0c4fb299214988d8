"""Files and batches: `/v1/files` and `/v1/batches` on the disk, and the bulk lane's work on them."""
