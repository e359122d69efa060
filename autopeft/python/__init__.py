"""What `import autopeft` offers of searches, as people call it: every setting by its name, shown while it goes on."""
