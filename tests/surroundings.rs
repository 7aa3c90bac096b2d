//! The process among other things of its machine: readers of its logs, descriptors, folders, slow clients, and
//! those who ask the admin interface.

mod admin;
mod descriptors;
mod folders;
mod heads;
mod logs;
mod uploads;
