//! The process among other things of its machine: readers of its logs, descriptors, folders, and those who
//! ask the admin interface.

mod logs;
